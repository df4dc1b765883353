#pragma once
// Tiny Transformers in ONNX's text syntax, for the many ways in which exporters spell attention and
// feed-forward layers.

#include <cstdint>
#include <string>
#include <vector>

#include "lib/ir/model.h"
#include "lib/support/random.h"

namespace tcompress::analysis {

/// Collects nodes and constants; weights are small random numbers, the same for the same order of calls.
class GraphText {
  public:
    explicit GraphText(int opset = 17) : opset_(opset) {}

    /// A constant of random floats.
    std::string weight(const std::string& name, const Shape& shape, double scale = 0.3);
    std::string ints(const std::string& name, const Shape& shape, const std::vector<std::int64_t>& values);
    std::string floats(const std::string& name, const Shape& shape, const std::vector<float>& values);
    /// `op` is what stands right of the equals sign: "MatMul(x, w)". Returns the result's name.
    std::string node(const std::string& op);
    /// Several outputs: "Split <axis = 2> (x)".
    std::vector<std::string> nodes(const std::string& op, std::size_t outputs);
    std::string input(const std::string& type, const std::string& name);
    void output(const std::string& type, const std::string& name);
    ir::Model model() const;
    std::string text() const;

    // Shorthands.
    std::string linear(const std::string& x, const std::string& name, std::int64_t in, std::int64_t out);
    std::string reshape(const std::string& x, const std::vector<std::int64_t>& shape);
    std::string transpose(const std::string& x, const std::string& perm);
    std::string layerNorm(const std::string& x, std::int64_t width);
    std::string scaled(const std::string& x, float factor);
    std::string softmax(const std::string& x);

  private:
    std::string fresh(const std::string& stem);
    int opset_;
    int counter_ = 0;
    Random random_{7, "tiny transformer"};
    std::string inputs_, outputs_, constants_, body_;
};

/// Hidden size 16, 4 heads of 4, two blocks; input float[b, s, 16] x, output y.
struct TinyOptions {
    std::int64_t hidden = 16, heads = 4, headDim = 4, kvHeads = 4, width = 24, layers = 2;
};

/// How one attention layer is written: from the normalized input to the projected output.
using AttentionWriter = std::string (*)(GraphText& g, const std::string& x, const TinyOptions& o, int layer);
using FeedForwardWriter = std::string (*)(GraphText& g, const std::string& x, const TinyOptions& o,
                                          int layer);

/// Plain separate projections, [B, H, S, d].
std::string plainAttention(GraphText& g, const std::string& x, const TinyOptions& o, int layer);
std::string plainFeedForward(GraphText& g, const std::string& x, const TinyOptions& o, int layer);
/// From q, k, v of shape [B, H, S, d] to the projected output.
std::string attend(GraphText& g, const std::string& q, const std::string& k, const std::string& v,
                   const TinyOptions& o, int layer, const std::string& bias = {});

ir::Model preNorm(AttentionWriter attention, FeedForwardWriter feedForward = plainFeedForward,
                  const TinyOptions& o = {}, int opset = 17);
ir::Model postNorm(AttentionWriter attention, FeedForwardWriter feedForward = plainFeedForward,
                   const TinyOptions& o = {});

}  // namespace tcompress::analysis
