#include "lib/analysis/leaf_guard.h"

#include <fmt/format.h>

#include <algorithm>

namespace tcompress::analysis {

namespace {

const char* verb(EventKind kind) {
    switch (kind) {
        case EventKind::softmax:
            return "normalized by softmax over it";
        case EventKind::norm:
            return "normalized over it";
        case EventKind::mean:
            return "averaged over it";
        case EventKind::reduce:
            return "reduced over it";
        case EventKind::gather:
            return "indexed";
        case EventKind::spatial:
            return "a window slides over it";
        case EventKind::dynamicQuantization:
            return "quantized over it";
    }
    return "";
}

}  // namespace

bool isCacheName(const std::string& name) {
    std::string lower = name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    constexpr const char* words[] = {"past", "present", "cache"};
    return std::any_of(std::begin(words), std::end(words),
                       [&](const char* word) { return lower.find(word) != std::string::npos; });
}

LeafGuard::LeafGuard(const ir::Model& model, const ModelAxes& axes, NormalizedAxes normalized) : axes_(axes) {
    for (const AxisEvent& event : axes.events) {
        // Ranges found at run time follow the values: another rounding, not another meaning.
        if (event.kind == EventKind::dynamicQuantization) continue;
        if (normalized == NormalizedAxes::cut && (event.kind == EventKind::norm || event.kind == EventKind::mean)) continue;
        for (AtomId leaf : axes.store->leaves(event.axis)) {
            reasons_[leaf].insert(
                fmt::format("{} ({} '{}')", verb(event.kind), event.node->opType(), event.node->label()));
        }
    }
    const auto addVisible = [&](const ir::Value* value, const char* what) {
        const std::vector<Axis>* own = axes.of(value);
        if (own == nullptr || isCacheName(value->name())) return;
        for (const Axis& axis : *own) {
            for (AtomId leaf : axes.store->leaves(axis)) {
                reasons_[leaf].insert(fmt::format("visible in the graph {} '{}'", what, value->name()));
            }
        }
    };
    for (const ir::Value* input : model.graph().inputs()) addVisible(input, "input");
    for (const ir::Value* output : model.graph().outputs()) addVisible(output, "output");
}

std::set<std::string> LeafGuard::refusals(AtomId leaf) const {
    std::set<std::string> all = axes_.store->frozenReasons(leaf);
    if (const auto found = reasons_.find(leaf); found != reasons_.end()) {
        all.insert(found->second.begin(), found->second.end());
    }
    return all;
}

}  // namespace tcompress::analysis
