#include "passes/prune/budget/rank_stages.h"

#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/low_rank/whitened_svd.h"

namespace tcompress::passes {
namespace {

/// Before anything is fitted a moderate ridge serves all layers.
constexpr double kRidge = 0.1;

Tensor tensorOf(const std::vector<double>& values, std::int64_t rows, std::int64_t columns) {
    Tensor tensor(DType::float32, {rows, columns});
    std::copy(values.begin(), values.end(), tensor.mutableData<float>().begin());
    return tensor;
}

}  // namespace

RankStages rankStages(const std::vector<const TargetWeight*>& weights, const std::vector<const Evidence*>& evidence,
                      std::int64_t largestPercent, std::int64_t multiple, calibration::TensorStore& store) {
    std::vector<LowRankFactors> factors(weights.size());
    RankStages stages;
    stages.matrices.resize(weights.size());
    parallelFor(std::ssize(weights), [&](std::int64_t index) {
        const auto w = static_cast<std::size_t>(index);
        const analysis::Site& site = *weights[w]->sites.front();
        const LayerSums sums = evidence[w]->all();
        const BiasFit bias = biasFit(site);
        factors[w] = whitenedSvd(hessian(sums, {kRidge, 0, bias, 0}), readLayer(site).weight, sums.outputs,
                                 rankAt(largestPercent, sums.inputs, sums.outputs, multiple));
        stages.matrices[w].weight = weights[w]->constant->name();
        if (bias == BiasFit::kept) return;
        for (const double sum : sums.x) stages.matrices[w].mean.push_back(sum / sums.rows);
    });
    for (std::size_t w = 0; w < weights.size(); ++w) {
        const LowRankFactors& found = factors[w];
        stages.matrices[w].left = store.add(tensorOf(found.left, found.inputs, found.rank));
        stages.matrices[w].right = store.add(tensorOf(found.right, found.rank, found.outputs));
    }
    return stages;
}

void writeRanks(ir::Edit& edit, const UnitWeights& weights, const RankStages& stages, std::int64_t percent,
                std::int64_t multiple, const calibration::TensorStore& store) {
    for (const RankStages::Matrix& matrix : stages.matrices) {
        const TargetWeight* weight = weights.find(matrix.weight);
        TCOMPRESS_CHECK(weight != nullptr, "ranks of another model");
        const LinearLayer before = readLayer(*weight->sites.front());
        const Tensor left = store.get(matrix.left), right = store.get(matrix.right);
        const std::int64_t inputs = left.shape()[0], most = left.shape()[1], outputs = right.shape()[1];
        LowRankFactors factors;
        factors.inputs = inputs;
        factors.outputs = outputs;
        factors.rank = std::min(most, rankAt(percent, inputs, outputs, multiple));
        const auto a = left.data<float>(), b = right.data<float>();
        for (std::int64_t i = 0; i < inputs; ++i)
            factors.left.insert(factors.left.end(), a.begin() + i * most, a.begin() + i * most + factors.rank);
        factors.right.assign(b.begin(), b.begin() + factors.rank * outputs);
        LinearLayer after{product(factors), before.bias};
        for (std::size_t i = 0; i < matrix.mean.size(); ++i)
            for (std::size_t o = 0; o < after.bias.size(); ++o) {
                const std::size_t at = i * after.bias.size() + o;
                after.bias[o] += matrix.mean[i] * (before.weight[at] - after.weight[at]);
            }
        writeLayer(edit, *weight, before, after);
    }
}

}  // namespace tcompress::passes
