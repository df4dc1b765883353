#include "passes/low_rank/rank_allocation.h"

#include <algorithm>
#include <optional>

#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"
#include "passes/low_rank/whitened_svd.h"
#include "passes/support/evidence.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {
namespace {

/// Statistics of as many layers at a time.
constexpr std::int64_t kStatisticsBytes = std::int64_t{200} << 20;
/// Ranks are planned before anything is fitted: a moderate ridge serves all layers.
constexpr RefitChoice kForPlan{0.1, 0, BiasFit::fitted, 0};

/// Relative squared difference of the float outputs, the mean over outputs.
double outputError(const ir::Model& original, const ir::Model& edited, const data::Dataset& samples, const calibration::Environment& environment) {
    calibration::Collector collector(original, edited);
    std::vector<const calibration::SimilaritySums*> sums;
    for (const ir::Value* output : edited.graph().outputs())
        if (output->producer() != nullptr && isFloatingPoint(output->dtype()))
            sums.push_back(&collector.add<calibration::SimilaritySums>(
                calibration::Source{original.graph().find(output->name()), calibration::Side::original},
                calibration::Source{output, calibration::Side::edited}));
    if (sums.empty()) return 0;
    collector.run(samples, environment.progress, environment.resources);
    double error = 0;
    for (const auto* sum : sums) error += sum->result().relativeError();
    return error / static_cast<double>(sums.size());
}

/// The rank to come after `rank`: nullopt when the matrix had better stay whole.
std::optional<std::int64_t> nextRank(const RankCurve& curve, std::int64_t rank, std::int64_t multiple) {
    const std::int64_t next = rank + multiple;
    if (next * (curve.inputs + curve.outputs) >= curve.inputs * curve.outputs) return std::nullopt;
    return next;
}

double tail(const RankCurve& curve, std::int64_t rank) {
    double sum = 0;
    for (std::size_t i = static_cast<std::size_t>(rank); i < curve.values.size(); ++i) sum += curve.values[i] * curve.values[i];
    return sum;
}

}  // namespace

std::vector<std::optional<std::int64_t>> allocateRanks(const std::vector<RankCurve>& curves, double keep,
                                                       std::int64_t multiple) {
    std::vector<std::optional<std::int64_t>> ranks(curves.size(), multiple);
    double left = 0;
    for (std::size_t w = 0; w < curves.size(); ++w) {
        left += keep * static_cast<double>(curves[w].inputs * curves[w].outputs);
        left -= static_cast<double>(multiple * (curves[w].inputs + curves[w].outputs));
    }
    struct Step {
        std::size_t weight = 0;
        double gain = -1, price = 0;  ///< gain for a parameter
        std::optional<std::int64_t> rank;
    };
    while (true) {
        Step best;
        for (std::size_t w = 0; w < curves.size(); ++w) {
            if (!ranks[w]) continue;
            const RankCurve& curve = curves[w];
            const std::optional<std::int64_t> next = nextRank(curve, *ranks[w], multiple);
            const std::int64_t whole = curve.inputs * curve.outputs, width = curve.inputs + curve.outputs;
            const auto price = static_cast<double>((next ? *next * width : whole) - *ranks[w] * width);
            const double gain = curve.sensitivity * (tail(curve, *ranks[w]) - (next ? tail(curve, *next) : 0.0)) / price;
            if (price <= left && gain > best.gain) best = {w, gain, price, next};
        }
        if (best.gain < 0) return ranks;
        ranks[best.weight] = best.rank;
        left -= best.price;
    }
}

std::vector<RankCurve> measureRankCurves(ir::Model& model, const std::vector<const TargetWeight*>& weights,
                                         const std::function<std::int64_t(std::int64_t, std::int64_t)>& uniform,
                                         const data::Split& samples, const calibration::Environment& environment) {
    const ir::Model original = model.clone();
    const data::Dataset& judges = allJudgesOf(samples);
    std::vector<RankCurve> curves;
    for (std::size_t begin = 0; begin < weights.size();) {
        std::vector<EvidenceQuery> queries;
        std::size_t end = begin;
        for (std::int64_t bytes = 0; end < weights.size() && (end == begin || bytes < kStatisticsBytes); ++end) {
            const analysis::Site& site = *weights[end]->sites.front();
            queries.push_back({site.input, site.output, nullptr});
            bytes += 16 * site.inFeatures * (site.inFeatures + 2 * site.outFeatures);
        }
        const std::vector<Evidence> evidence = collectEvidence(original, model, queries, samples, environment);
        for (; begin < end; ++begin) {
            const TargetWeight& weight = *weights[begin];
            const LinearLayer start = readLayer(*weight.sites.front());
            const LayerSums sums = evidence[queries.size() - (end - begin)].all();
            const LowRankFactors factors =
                whitenedSvd(hessian(sums, kForPlan), start.weight, sums.outputs, uniform(sums.inputs, sums.outputs));
            const Tensor stored = *weight.constant->constant();
            ir::Edit edit(model, "rank allocation");
            writeLayer(edit, weight, start, {product(factors), start.bias});
            edit.commit();
            const double error = outputError(original, model, judges, environment);
            ir::Edit back(model, "rank allocation");
            back.setConstant(weight.constant, stored);
            back.commit();
            curves.push_back({sums.inputs, sums.outputs, factors.values, factors.lost > 0 ? error / factors.lost : 0.0});
        }
    }
    return curves;
}

}  // namespace tcompress::passes
