#pragma once
// One way in which exporters write attention and feed-forward layers, and the check that it is understood.

#include <string>

#include "lib/analysis/transformer_view.h"
#include "tests/unit/analysis/tiny_transformer.h"

namespace tcompress::analysis {

struct Style {
    const char* name;
    AttentionWriter attention;
    FeedForwardWriter feedForward;
    std::int64_t kvHeads;
    bool gated;
    ActivationKind activation;
};

/// The figures of the view are right, and with a random half of heads and neurons gone the model equals the
/// masked one.
void checkStyle(const Style& style, const ir::Model& model, NormPlacement placement);

/// `count` heads of [B, H, S, d] projected from x.
std::string heads(GraphText& g, const std::string& x, const std::string& name, const TinyOptions& o,
                  std::int64_t count);
std::string layerName(const char* name, int layer);

}  // namespace tcompress::analysis
