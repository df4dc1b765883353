#pragma once
// Rounding of a layer's weights one input channel (or a few) after another, each made to repay what the ones
// before it cost the layer's output. What a weight may be rounded to is the caller's matter.
//
// Minimised is ‖X·(W − Q)‖² = tr(EᵀHE) with H = XᵀX and E = W − Q. With the Cholesky factor H = L·Lᵀ that is
// Σ_B ‖L_BBᵀ·E_B + Σ_{j>B} L_jBᵀ·E_j‖² over blocks B of input channels: going from the last block to the
// first, everything in the B-th term but Q_B is known, and what is nearest to
//
//     W_B + L_BB⁻ᵀ · Σ_{j>B} L_jBᵀ·E_j          in the norm ‖L_BBᵀ · (…)‖
//
// makes it smallest. With blocks of one channel that is the same rounding as the inverse-Hessian updates of
// GPTQ, without the inverse.
//
// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
// Transformers"; this form: Chen et al. 2025, "The Geometry of LLM Quantization: GPTQ as Babai's Nearest
// Plane Algorithm"; blocks: van Baalen et al. 2024, "GPTVQ: The Blessing of Dimensionality for LLM
// Quantization".

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tcompress::passes {

enum class ColumnOrder {
    natural,    ///< input channels as they are stored
    activation  ///< those with the largest activations first ("act_order")
};

/// L of the damped H, its input channels in the order of the solve: what all layers that read one input, and all
/// that is tried for one layer, may share.
struct FeedbackFactor {
    std::int64_t inputs = 0;
    /// Neighbouring input channels that are rounded together.
    std::int64_t dimension = 1;
    /// The input channel at each place: what is rounded first comes last.
    std::vector<std::int64_t> channelAt;
    std::vector<float> l;  ///< [inputs, inputs] by place
};

/// `secondMoment`: XᵀX or any multiple of it, [inputs, inputs]. `damp`: added to H's diagonal, as a multiple of its
/// mean: makes H definite and trusts it less. `dimension`: a divisor of `inputs`.
FeedbackFactor feedbackFactor(std::span<const double> secondMoment, std::int64_t inputs, double damp,
                              ColumnOrder order, std::int64_t dimension = 1);

struct ErrorFeedback {
    std::span<const float> weights;  ///< [inputs, channels]
    std::int64_t channels = 0;
    /// Input channels whose errors are handed on together; a matter of speed only.
    std::int64_t blockSize = 128;
};

/// Some weights to round: of the input channels `input` … input + dimension − 1 and the output channels
/// `first` … first + count − 1.
struct FeedbackStep {
    static constexpr std::int64_t kMostChannels = 64;

    std::int64_t input = 0;
    std::int64_t first = 0;
    std::int64_t count = 0;
    /// What to round, [dimension, kMostChannels]; becomes what it was rounded to.
    float* values = nullptr;
    /// L_BBᵀ, [dimension, dimension] row-major: rounding x to y costs ‖factor · (x − y)‖².
    std::span<const float> factor;
};

/// Calls `round` for all weights, in parallel for different output channels.
void roundWithFeedback(const ErrorFeedback& problem, const FeedbackFactor& factor,
                       const std::function<void(const FeedbackStep&)>& round);

}  // namespace tcompress::passes
