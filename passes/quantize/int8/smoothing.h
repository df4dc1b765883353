#pragma once
// SmoothQuant: outliers of activations moved into the weights, so that both can be rounded to 8 bits.
//
//   x · W = ((x − z) / s) · (s · W) + z · W,     sⱼ = max|xⱼ − zⱼ|^α / max|Wⱼ|^(1 − α)
//
// z is 0 or the middle of each channel's range. Chosen are α and whether to shift, for all layers that read x
// together, by the expected squared error of their outputs on held-back samples:
//
//   rounding of activations, a step Δ for the whole tensor:   Δ²/12 · ‖s·W‖²,  Δ = mean range of (x − z)/s /
//   255 rounding of weights:                                      tr(EᵀHE),        H = second moment of x − z
//
// The identity (α = none, z = 0) is among the choices, so that what gains nothing stays as it is.
//
// Source: Xiao et al. 2022, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
// Language Models"; shifts: Wei et al. 2023, "Outlier Suppression+".

#include <optional>
#include <string>
#include <vector>

#include "lib/calibration/statistic.h"
#include "passes/quantize/solver/awq_solver.h"
#include "passes/support/channel_map.h"

namespace tcompress::passes {

/// Smallest and largest value of each channel in each batch: what a range measured on each run will be.
class BatchRanges : public calibration::Statistic {
  public:
    BatchRanges(calibration::Source source, calibration::RowsSeen seen) : source_(source), seen_(seen) {}
    std::vector<calibration::Source> sources() const override { return {source_}; }
    calibration::RowsSeen rowsSeen() const override { return seen_; }
    void add(std::span<const calibration::Rows> sources) override;
    std::string kind() const override;
    void transfer(calibration::Archive& archive) override;

    std::size_t batches() const { return low_.size(); }
    const std::vector<float>& low(std::size_t batch) const { return low_[batch]; }
    const std::vector<float>& high(std::size_t batch) const { return high_[batch]; }

  private:
    calibration::Source source_;
    calibration::RowsSeen seen_;
    std::vector<std::vector<float>> low_, high_;
};

/// What is known of one input: sums over rows.
struct ActivationEvidence {
    const BatchRanges* ranges = nullptr;
    std::int64_t rows = 0;
    std::vector<double> sum;           ///< [channels]
    std::vector<double> secondMoment;  ///< XᵀX [channels, channels]
};

enum class Shifting { never, automatic };

struct SmoothingOptions {
    std::vector<double> exponents;  ///< α to try
    Shifting shifting = Shifting::automatic;
    /// What takes no operator on the activations, and so needs no gain to be worth it.
    ChannelMapPlaces folded;
};

struct Smoothing {
    double exponent = -1;       ///< negative: no scales
    std::vector<float> scales;  ///< s; empty: all 1
    std::vector<float> shifts;  ///< z; empty: all 0
    double error = 0;           ///< expected squared error of the outputs, a row
    double plainError = 0;      ///< without smoothing

    bool isIdentity() const { return scales.empty() && shifts.empty(); }
    /// x → (x − z) / s.
    ChannelMap map() const;
};

/// Layers of the same input and their rule; ranges come from `fit`, errors from `heldBack`. Nothing when a
/// weight is not finite or there are no rows.
std::optional<Smoothing> findSmoothing(std::span<const AwqLayer> layers, const QuantizationRule& rule,
                                       const ActivationEvidence& fit, const ActivationEvidence& heldBack,
                                       const SmoothingOptions& options);

/// Σ (x − z)(x − z)ᵀ from the sums over rows; z empty: as it is.
std::vector<double> shiftedMoment(const ActivationEvidence& evidence, const std::vector<float>& shifts);

}  // namespace tcompress::passes
