#pragma once
// Linear layers as products of integers (int8_form.h), for all passes that compute so: which layers can take the
// form and how their codes are chosen.
//
// With calibration data, outliers of the activations are moved into the weights first (smoothing.h):
//
//   (x · (1/s) − z/s) is what is quantized,   Wq of s · W,   the constant behind + z · W
//
// What makes x takes the factors where it can: a norm (channel_map.h), or the scales of a layer whose outputs reach x
// through operators that factors commute with (scaling_paths.h). Otherwise they are a Mul and an Add. An input that
// gains nothing stays as it is. Codes repay each other's errors (gptq_solver.h). Embedding tables are stored as int8
// rows (quantized_table.h).

#include <optional>
#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "lib/support/option_set.h"
#include "passes/quantize/floating/float_form.h"
#include "passes/quantize/int8/calibrated_int8.h"
#include "passes/quantize/int8/target_isa.h"

namespace tcompress::passes {

enum class ReduceRange { automatic, always, never };
enum class Smooth { automatic, none };

struct Int8Options {
    std::int64_t bits = 8;
    RangeChoice observer = RangeChoice::minmax;
    ReduceRange reduceRange = ReduceRange::automatic;
    TargetIsa targetIsa = TargetIsa::automatic;
    Smooth smooth = Smooth::automatic;
    std::optional<double> alpha;
    bool shift = true;
    bool equalize = false;
    Rounding8 rounding = Rounding8::gptq;
    std::optional<double> maxError;
    bool requantize = false;
    std::vector<std::string> targets, ignore;
};

/// All but the observers, whose names differ.
template <class Options>
void addInt8Options(OptionTable<Options>& table) {
    table
        .option("bits", static_cast<std::int64_t Options::*>(&Options::bits),
                "bits of weights and activations")
        .range(8, 8)
        .choice(
            "reduce_range", static_cast<ReduceRange Options::*>(&Options::reduceRange),
            {{"auto", ReduceRange::automatic}, {"true", ReduceRange::always}, {"false", ReduceRange::never}},
            "keep weights within 7 bits, so that processors without VNNI do not saturate; auto does so when "
            "the target has no VNNI")
        .choice("target_isa", static_cast<TargetIsa Options::*>(&Options::targetIsa),
                {{"auto", TargetIsa::automatic}, {"vnni", TargetIsa::vnni}, {"avx2", TargetIsa::avx2}},
                "what the processor that will run the model has; auto: this one's")
        .choice("smooth", static_cast<Smooth Options::*>(&Options::smooth),
                {{"auto", Smooth::automatic}, {"none", Smooth::none}},
                "move outliers of activations into the weights; auto: where calibration data are given and "
                "show that it helps")
        .option("alpha", static_cast<std::optional<double> Options::*>(&Options::alpha),
                "how far: 0, all range stays in the activations, to 1, all goes to the weights; left out: "
                "searched for each input on held-back samples")
        .alias("smoothing_strength")
        .range(0, 1)
        .option("shift", static_cast<bool Options::*>(&Options::shift),
                "whether channels may be shifted to the middle of their range")
        .option("equalize", static_cast<bool Options::*>(&Options::equalize),
                "cross-layer equalisation first: between layers that factors pass through (values to output projection, "
                "up to down behind ReLU or beside a gate) weights on both sides are made to reach equally far; needs no "
                "data")
        .alias("cross_layer_equalization")
        .choice("rounding", static_cast<Rounding8 Options::*>(&Options::rounding),
                {{"gptq", Rounding8::gptq}, {"nearest", Rounding8::nearest}},
                "with calibration data: codes that repay each other's errors, or the nearest ones")
        .option(
            "max_error", static_cast<std::optional<double> Options::*>(&Options::maxError),
            "leave layers as they are whose outputs would be off by more than this share of their size on "
            "held-back samples (needs calibration data)")
        .range(0, 1)
        .option("requantize", static_cast<bool Options::*>(&Options::requantize), kRequantizeHelp)
        .option("targets", static_cast<std::vector<std::string> Options::*>(&Options::targets),
                "sites to quantize, by patterns")
        .option("ignore", static_cast<std::vector<std::string> Options::*>(&Options::ignore),
                "sites to leave alone, by patterns");
}

/// The whole pass. `activations`: how ranges of activations are observed on calibration data, for constants
/// in the graph; nothing: ranges are measured on each run.
pipeline::PassReport quantizeToInt8(ir::Model& model, const pipeline::PassContext& context,
                                    const Int8Options& options, const char* pass,
                                    const std::optional<ActivationRange>& activations);

}  // namespace tcompress::passes
