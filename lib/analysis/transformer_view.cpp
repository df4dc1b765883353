#include "lib/analysis/transformer_view.h"

namespace tcompress::analysis {

std::string_view name(NormPlacement placement) {
    switch (placement) {
        case NormPlacement::unknown:
            return "unknown";
        case NormPlacement::pre:
            return "pre";
        case NormPlacement::post:
            return "post";
    }
    return "";
}

std::string_view name(ActivationKind kind) {
    switch (kind) {
        case ActivationKind::unknown:
            return "unknown";
        case ActivationKind::relu:
            return "relu";
        case ActivationKind::geluErf:
            return "gelu";
        case ActivationKind::geluTanh:
            return "gelu-tanh";
        case ActivationKind::silu:
            return "silu";
        case ActivationKind::quickGelu:
            return "quick-gelu";
        case ActivationKind::hardSwish:
            return "hard-swish";
    }
    return "";
}

std::string_view name(SiteRole role) {
    switch (role) {
        case SiteRole::other:
            return "other";
        case SiteRole::embedding:
            return "embedding";
        case SiteRole::attentionQ:
            return "attention.q";
        case SiteRole::attentionK:
            return "attention.k";
        case SiteRole::attentionV:
            return "attention.v";
        case SiteRole::attentionQkv:
            return "attention.qkv";
        case SiteRole::attentionO:
            return "attention.o";
        case SiteRole::ffnUp:
            return "ffn.up";
        case SiteRole::ffnGate:
            return "ffn.gate";
        case SiteRole::ffnUpGate:
            return "ffn.up-gate";
        case SiteRole::ffnDown:
            return "ffn.down";
        case SiteRole::pooler:
            return "pooler";
        case SiteRole::classifier:
            return "classifier";
        case SiteRole::patchEmbedding:
            return "patch-embedding";
    }
    return "";
}

std::vector<std::string> roleNames() {
    std::vector<std::string> names;
    for (int role = 0; role <= static_cast<int>(SiteRole::patchEmbedding); ++role) {
        names.emplace_back(name(static_cast<SiteRole>(role)));
    }
    return names;
}

}  // namespace tcompress::analysis
