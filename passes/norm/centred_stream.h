#pragma once
// What has to be centred so that a value of the residual stream has a mean of zero in every token, and which normalizations then
// have no mean to take away: found by walking from the value along everything that it flows from and to.
//
//   tables, output projections, constants   write it: centred along the axis that they write
//   sums, reshapes, parts of the sequence   a mean of zero stays one
//   LayerNorms                              read it, and give the same with and without its mean
//
// What sees the mean (an output of the model, a linear layer without a normalization in front, an RMSNorm) or makes one
// (a normalization whose result goes into the sum: post-norm models) is a refusal.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"

namespace tcompress::passes {

struct CentredStream {
    std::string refusal;  ///< empty when it can be done
    /// Constants, each with the axis along which its mean goes.
    std::map<ir::Value*, std::size_t> constants;
    /// Rows of tables that something else uses too (a tied output head): centred where they were looked up, along the last axis.
    std::vector<ir::Value*> lookups;
    /// What takes the mean away, in graph order: a LayerNormalization, or the Sub of one that is spelled out.
    std::vector<ir::Node*> norms;
};

/// `leaf` is the stream's axis (support/residual_stream.h).
CentredStream centredStream(const analysis::TransformerView& view, analysis::AtomId leaf, ir::Value& start);

/// Why a normalization of a tensor of this rank, whose last axis is the channels, cannot lose its mean whatever it reads;
/// nothing when it can.
std::optional<std::string> normRefusal(const ir::Node& norm, std::size_t rank);

/// Whether a node is the Sub of x and its mean over the last axis.
bool takesMeanAway(const ir::Node& node);

}  // namespace tcompress::passes
