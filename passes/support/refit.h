#pragma once
// Compensation in closed form: the weights that remain are fitted again so that a layer of the edited model
// gives what the reference gave, on calibration rows.
//
//   minimise  Σ ‖ y + α·e − x·W − b ‖²  +  λ · ‖W − W₀‖²
//
// x is what the layer reads in the edited model, y what it gives in the reference, e what the residual stream
// lacks there already (reference minus edited), W₀ the weights it has. The ridge λ draws towards W₀: with too
// few rows the layer stays what it was. λ, the share α and whether b moves are chosen on held-back rows, whose
// error is known in closed form from the same sums, so no model runs for it.
//
// Sources: Hoerl and Kennard 1970 (ridge regression); Frantar and Alistarh 2022, "Optimal Brain Compression";
// Kurtic et al. 2023, "ZipLM"; the target with the stream's error: Nagel et al. 2020, "Up or Down? Adaptive
// Rounding for Post-Training Quantization" (asymmetric reconstruction).

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::passes {

/// Sums over rows. Matrices are row-major; x has `inputs` entries a row, y and e have `outputs`.
struct LayerSums {
    std::int64_t inputs = 0, outputs = 0;
    double rows = 0;
    std::vector<double> xx;      ///< Σ xᵀx [inputs, inputs]
    std::vector<double> xy, xe;  ///< Σ xᵀy, Σ xᵀe [inputs, outputs]; xe is empty as long as no e is known
    std::vector<double> x, y, e;
    double yy = 0, ye = 0, ee = 0;  ///< Σ y·y, Σ y·e, Σ e·e

    /// All zero. Where the stream's error is not known it has no say.
    LayerSums(std::int64_t inputs, std::int64_t outputs);
    /// Rows x [rows, inputs], y and e [rows, outputs]; e may be empty.
    void add(std::span<const float> x, std::span<const float> y, std::span<const float> e, std::int64_t rows);
    LayerSums& operator+=(const LayerSums& other);
};

/// Rows to fit on and rows held back from it.
struct Evidence {
    LayerSums fit, held;
    LayerSums all() const;
};

/// A layer's weights as inputs × outputs, and its bias.
struct LinearLayer {
    std::vector<double> weight;
    std::vector<double> bias;
};

/// The problem that is left when only some inputs remain.
LayerSums keepInputs(const LayerSums& sums, const std::vector<std::int64_t>& inputs);
Evidence keepInputs(const Evidence& evidence, const std::vector<std::int64_t>& inputs);
LinearLayer keepInputs(const LinearLayer& layer, std::int64_t outputs,
                       const std::vector<std::int64_t>& inputs);

/// The problem of some outputs alone. Its Σ y·y, Σ y·e and Σ e·e stay those of all: errors are told up to a constant.
LayerSums keepOutputs(const LayerSums& sums, const std::vector<std::int64_t>& outputs);
Evidence keepOutputs(const Evidence& evidence, const std::vector<std::int64_t>& outputs);
LinearLayer keepOutputs(const LinearLayer& layer, const std::vector<std::int64_t>& outputs);

/// Σ ‖ y + share·e − x·W − b ‖² over the rows of `sums`.
double squaredError(const LayerSums& sums, const LinearLayer& layer, double share);

enum class BiasFit { kept, fitted };

struct RefitChoice {
    double ridge = 0.1;  ///< λ as a share of the mean of XᵀX's diagonal
    double share = 0;    ///< α, 0 to 1
    BiasFit bias = BiasFit::fitted;
    double heldError = 0;  ///< squared error on the held-back rows against y + e, divided by Σ‖y‖²
};

/// The choice with the least error against y + e on the held-back rows. With BiasFit::kept the bias is not up
/// for choice (there is none to change).
RefitChoice chooseRefit(const Evidence& evidence, const LinearLayer& start, BiasFit bias);

/// The best share of the stream's error at one ridge.
RefitChoice chooseShare(const Evidence& evidence, const LinearLayer& start, double ridge, BiasFit bias);

/// The same with the layer that it gives on the rows to fit on.
struct RidgeFit {
    RefitChoice choice;
    LinearLayer layer;
};
RidgeFit fitAtRidge(const Evidence& evidence, const LinearLayer& start, double ridge, BiasFit bias);

/// The layer that `choice` gives on `sums`.
LinearLayer refit(const LayerSums& sums, const LinearLayer& start, const RefitChoice& choice);

/// Given weights with the bias that `choice` means for them: the mean that they leave over, or the start's.
LinearLayer withBias(const LayerSums& sums, std::vector<double> weight, const LinearLayer& start,
                     const RefitChoice& choice);

/// The quadratic form whose minimum refit() is: the error of weights W is the minimum's plus
/// tr((W − W*)ᵀ·H·(W − W*)), where H is XᵀX, centred when the bias is fitted, plus the ridge.
std::vector<double> hessian(const LayerSums& sums, const RefitChoice& choice);

}  // namespace tcompress::passes
