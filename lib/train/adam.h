#pragma once
// Steps down a gradient, each weight's in proportion to its own recent gradients: Kingma and Ba 2015, "Adam", algorithm 1;
// weight decay apart from the gradient (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization").

#include <span>
#include <vector>

namespace tcompress::train {

struct AdamOptions {
    double beta1 = 0.9, beta2 = 0.999;  ///< how much of the moments stays from step to step
    double epsilon = 1e-8;
    double weightDecay = 0;  ///< share of a weight that goes at each step, times the rate
};

/// Weights that are zero: whether they learn, or stay pruned.
enum class Zeros { learn, stay };

/// The state of one tensor.
class Adam {
  public:
    explicit Adam(Zeros zeros = Zeros::learn, AdamOptions options = {}) : zeros_(zeros), options_(options) {}
    /// weights −= rate · m̂/(√v̂ + ε). Spans of one size, the same at each call.
    void step(std::span<float> weights, std::span<const float> gradient, double rate);

  private:
    Zeros zeros_;
    AdamOptions options_;
    std::vector<float> first_, second_;
    double power1_ = 1, power2_ = 1;  ///< βᵗ
};

}  // namespace tcompress::train
