// Half-quadratic quantization: weight-only. As quantize/weight-only, but scales and zero points of each group
// are moved about for a smaller rounding error (hqq_solver.h). With calibration data errors count by how large
// the activations are that they are multiplied with.
//
// Source: Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"; the weighting:
// Kim et al. 2023, "SqueezeLLM" (there by gradients).
//
// Not handled: what quantize/weight-only does not handle.

#include <map>

#include "lib/calibration/channel_statistics.h"
#include "lib/calibration/collector.h"
#include "passes/passes.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/quantize/storage/weight_storage.h"

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
        PassReport report;
        const std::vector<TargetWeight> weights = storage_.weights(model, context, report);
        const auto importance = importanceOf(weights, model, context);
        storage_.quantizeEach(
            model, context, weights,
            [&](const TargetWeight& weight, const kernels::QuantizationLayout& layout) {
                const auto found = importance.find(&weight);
                return quantizeByHqq(
                    weight.constant->constant()->data<float>(), layout, storage_.rule(weight), options_,
                    found == importance.end() ? std::span<const float>{} : std::span(found->second));
            },
            report);
        return report;
    }

  private:
    /// Mean square of each channel that a linear layer's weight is multiplied with.
    static std::map<const TargetWeight*, std::vector<float>> importanceOf(
        const std::vector<TargetWeight>& weights, const ir::Model& model, const PassContext& context) {
        std::map<const TargetWeight*, std::vector<float>> result;
        if (!context.hasCalibration()) return result;
        calibration::Collector collector(model);
        std::map<const ir::Value*, const calibration::ChannelSums*> sums;
        for (const TargetWeight& weight : weights)
            if (multipliesRows(weight))
                for (const analysis::Site* site : weight.sites)
                    if (const calibration::ChannelSums*& place = sums[site->input]; place == nullptr)
                        place = &collector.add<calibration::ChannelSums>(calibration::Source(site->input));
        context.collect(collector, context.calibration(kPass, "errors count by the size of activations"));
        for (const TargetWeight& weight : weights) {
            if (!multipliesRows(weight)) continue;
            std::vector<double> squares;
            for (const analysis::Site* site : weight.sites) {
                const calibration::ChannelStatistics input = sums.at(site->input)->result();
                squares.resize(std::max(squares.size(), input.meanSquare.size()));
                for (std::size_t i = 0; i < input.meanSquare.size(); ++i)
                    squares[i] += static_cast<double>(input.rows) * input.meanSquare[i];
            }
            if (!squares.empty()) result.emplace(&weight, std::vector<float>(squares.begin(), squares.end()));
        }
        return result;
    }

    WeightStorage storage_;
    HqqOptions options_;
};

}  // namespace

pipeline::PassInfo quantizeHqq() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "hqq";
    info.summary = "weight-only with grids moved about for a smaller error";
    info.details =
        "As weight-only, with scales and zero points of each group found by half-quadratic splitting and "
        "least squares, and never worse than weight-only's. Needs no calibration data; with them errors "
        "count by how large the activations are that they meet.";
    info.paper = "Badri and Shaji 2023, Half-Quadratic Quantization of Large Machine Learning Models";
    info.data = pipeline::DataNeed::optional;
    bindOptions<QuantizeHqq>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
