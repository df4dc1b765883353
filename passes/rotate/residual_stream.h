#pragma once
// What a rotation of the residual stream has to change: found by walking the graph from the stream along everything
// that it flows through.
//
//   tables, output projections   write the stream: turned along the axis that they write
//   norms                        let the rotation through, but for their gains, which go to the layers behind them
//   linear layers behind norms   read the stream: turned along the axis that they read
//
// Norms may be one operator or spelled out: what matters is that each step commutes with a rotation that keeps
// lengths and means. Where one does not (an output of the model that shows the stream, a norm whose result goes back
// into the stream: post-norm models), there is no rotation, and a reason.

#include <map>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "passes/support/residual_stream.h"

namespace tcompress::passes {

/// One constant: along which of its axes it is turned, and with which gain before that.
struct TurnedConstant {
    struct Axis {
        std::size_t axis = 0;
        int gain = -1;  ///< index into StreamPlan::gains; −1: none
        bool operator==(const Axis&) const = default;
    };
    std::vector<Axis> axes;
    std::size_t uses = 0;  ///< that were met on the way
};

struct StreamPlan {
    std::string refusal;  ///< why the stream cannot be turned; empty when it can
    std::vector<AffineSite> gains;
    std::map<ir::Value*, TurnedConstant> constants;
};

/// Of a model whose vectors are each read once (analysis::unshareVectors()).
StreamPlan planStream(const ir::Model& model, const analysis::TransformerView& view);

}  // namespace tcompress::passes
