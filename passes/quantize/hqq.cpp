// Half-quadratic quantization: weight-only, without data. As quantize/weight-only, but scales and zero points
// of each group are moved until the rounding error is small in a norm that forgives outliers (hqq_solver.h).
//
// Source: Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models".
//
// Not handled: what quantize/weight-only does not handle.

#include "passes/passes.h"
#include "passes/quantize/hqq_solver.h"
#include "passes/quantize/weight_storage.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/hqq";

struct Options : StorageOptions {
    Options() { bits = 4; }
    double norm = 0.7;
    std::int64_t iterations = 20;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    addStorageOptions(table);
    table.option("norm", &Options::norm, "the power p of the norm: the smaller, the less outliers count")
        .range(0.1, 2.0)
        .option("iterations", &Options::iterations, "rounds at most; a group stops when it gets no better")
        .range(1, 1000);
    return table;
}

class QuantizeHqq : public pipeline::Pass {
  public:
    explicit QuantizeHqq(const Options& options)
        : storage_(options, kPass), options_{options.norm, options.iterations} {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        return storage_.quantizeEach(
            model, context,
            [this](std::span<const float> weights, const kernels::QuantizationLayout& layout,
                   const QuantizationRule& rule) { return quantizeByHqq(weights, layout, rule, options_); });
    }

  private:
    WeightStorage storage_;
    HqqOptions options_;
};

}  // namespace

pipeline::PassInfo quantizeHqq() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "hqq";
    info.summary = "weight-only without data: grids fitted in a norm that forgives outliers";
    info.details =
        "As weight-only, with scales and zero points of each group found by half-quadratic splitting. Needs "
        "no calibration data. Slower than weight-only; closer than its minmax ranges, about as close as its "
        "mse ranges.";
    info.paper = "Badri and Shaji 2023, Half-Quadratic Quantization of Large Machine Learning Models";
    bindOptions<QuantizeHqq>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
