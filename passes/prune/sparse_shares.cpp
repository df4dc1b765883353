#include "passes/prune/sparse_shares.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/linalg.h"
#include "lib/calibration/channel_statistics.h"
#include "lib/support/check.h"
#include "passes/support/evidence.h"
#include "passes/support/layer_runs.h"
#include "passes/support/layer_weights.h"
#include "passes/support/layerwise.h"
#include "passes/support/output_judge.h"
#include "passes/support/sparse_admm.h"
#include "passes/support/sparse_obs.h"
#include "passes/support/sparse_optimum.h"
#include "passes/support/unit_readers.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;
using Weights = std::vector<const TargetWeight*>;

std::vector<SparseLayer> layersByInputs(const ir::Model& model, const Weights& weights, const data::Split& samples,
                                        const pipeline::PassContext& context) {
    calibration::ValueSet inputs;
    for (const TargetWeight* weight : weights) inputs.insert(weight->sites.front()->input);
    const auto statistics = calibration::collectChannelStatistics(model, samples.fit, inputs, calibration::MomentOrder::first,
                                                                  context.progress(), context.resources());
    std::vector<SparseLayer> layers;
    for (const TargetWeight* weight : weights) {
        const analysis::Site& site = *weight->sites.front();
        const auto seen = statistics.find(site.input);
        // A layer that sees no row is judged by its weights alone.
        const std::vector<double> ones(static_cast<std::size_t>(site.inFeatures), 1.0);
        layers.emplace_back(readLayer(site).weight, seen == statistics.end() ? ones : seen->second.meanSquare);
    }
    return layers;
}

/// The model with other values in one weight, by its name.
ir::Model withLayer(const ir::Model& model, const std::string& weight, const LinearLayer& layer) {
    ir::Model edited = model.clone();
    const TransformerView view = analysis::recognise(edited);
    const UnitWeights weights(view);
    const TargetWeight* target = weights.find(weight);
    TCOMPRESS_CHECK(target != nullptr, "a weight that its model's copy does not have");
    ir::Edit edit(edited, "trial");
    writeLayer(edit, *target, readLayer(*target->sites.front()), layer);
    edit.commit();
    return edited;
}

class OutputTrials {
  public:
    OutputTrials(const ir::Model& model, const TransformerView& view, const data::Split& samples, double sparsity,
                 OtherWeights others, const OutputCurvature* curvature, const pipeline::PassContext& context)
        : model_(model),
          view_(view),
          sparsity_(sparsity),
          others_(others),
          curvature_(curvature),
          judge_(model, comparableOutputs(model.graph(), layerSpans(view, LayerPart::block)), judgesOf(samples), context),
          walk_(model, model, view, samplesToPlanBy(samples), context.environment()) {}

    std::vector<SparseLayer> layersOf(const Weights& weights) {
        // All weights of a block are looked at together, shared ones at the first of their sites.
        std::map<int, std::vector<std::size_t>> blocks;
        std::vector<const analysis::Site*> sites;
        for (const TargetWeight* weight : weights) {
            sites.push_back(*std::min_element(weight->sites.begin(), weight->sites.end(), [](const auto* a, const auto* b) {
                return a->node->position() < b->node->position();
            }));
            blocks[walk_.blockOf(*sites.back())].push_back(sites.size() - 1);
        }
        std::vector<std::optional<SparseLayer>> found(weights.size());
        for (const auto& [block, places] : blocks) {
            walk_.advanceTo(block);
            if (block > 0) judge_.advanceTo(view_.blocks[static_cast<std::size_t>(block)].input);
            std::vector<EvidenceQuery> queries;
            for (const std::size_t place : places) queries.push_back(evidenceQuery(*sites[place], nullptr));
            std::vector<LayerSums> sums;
            for (Evidence& evidence : walk_.collect(queries)) sums.push_back(std::move(evidence.fit += evidence.held));
            for (std::size_t i = 0; i < places.size(); ++i)
                found[places[i]] = tried(*weights[places[i]], *sites[places[i]], std::exchange(sums[i], LayerSums(0, 0)));
        }
        std::vector<SparseLayer> layers;
        for (std::optional<SparseLayer>& layer : found) layers.push_back(std::move(*layer));
        return layers;
    }

  private:
    SparseLayer tried(const TargetWeight& weight, const analysis::Site& site, const LayerSums& sums) const {
        const LinearLayer start = readLayer(site);
        const RefitChoice choice{kRidge, 0, biasFit(site), 0};
        std::vector<double> h = hessian(sums, choice);
        const std::vector<double> importance = importances(h, sums.inputs);
        const std::vector<double> metric = curvature_ == nullptr ? std::vector<double>{} : curvature_->of(weight);
        std::vector<double> counting = start.weight;  // by what its output counts
        if (!metric.empty()) {
            const std::vector<double> worth = importances(metric, sums.outputs);
            for (std::size_t i = 0; i < counting.size(); ++i) counting[i] *= std::sqrt(worth[i % worth.size()]);
        }
        std::vector<double> saliencies(counting.size());
        double all = 0;
        for (std::size_t i = 0; i < saliencies.size(); ++i) {
            saliencies[i] = counting[i] * counting[i] * importance[i / start.bias.size()];
            all += saliencies[i];
        }
        const SparseMask mask = maskByScore(saliencies, sums.outputs, SparsePattern{}, sparsity_, 0);
        double lost = 0;
        for (std::size_t i = 0; i < saliencies.size(); ++i)
            if (!mask[i]) lost += saliencies[i];
        // What is zero already costs nothing.
        if (lost <= 0) return {counting, importance, 0.0};
        LinearLayer sparse;
        if (others_ == OtherWeights::fitted) {
            sparse = withBias(sums, fitted(std::move(h), start.weight, sums.outputs, metric), start, choice);
        } else {
            std::vector<double> left = start.weight;
            for (std::size_t i = 0; i < left.size(); ++i)
                if (!mask[i]) left[i] = 0;
            sparse = withBias(sums, std::move(left), start, choice);
            lost = squaredError(sums, sparse, 0);
        }
        return {counting, importance, lost > 0 ? judge_.error(withLayer(model_, weight.constant->name(), sparse)) * all / lost : 0.0};
    }

    /// Squared errors at which rows and columns of a matrix of second moments make up best for a unit that goes: 1/[H⁻¹]ᵢᵢ.
    static std::vector<double> importances(std::vector<double> moments, std::int64_t size) {
        // [H⁻¹]ᵢᵢ is the squared norm of row i of its Cholesky factor.
        kernels::choleskyOfInverse(moments, size);
        std::vector<double> importance;
        for (auto row = moments.begin(); row != moments.end(); row += size)
            importance.push_back(1 / std::inner_product(row, row + size, row, 0.0));
        return importance;
    }

    /// As the pass will, or near enough.
    std::vector<double> fitted(std::vector<double> h, const std::vector<double>& weights, std::int64_t outputs,
                               const std::vector<double>& metric) const {
        if (metric.empty()) return sweep(std::move(h), weights, outputs, SparsePattern{}, sparsity_, zerosOf(weights)).weights;
        const SparseWeights found = alternatingDirections(h, weights, outputs, SparsePattern{}, sparsity_, zerosOf(weights), metric);
        return sparseOptimum(h, weights, outputs, found.mask, found.weights, metric);
    }

    static constexpr double kRidge = 0.1;
    const ir::Model& model_;
    const TransformerView& view_;
    double sparsity_;
    OtherWeights others_;
    const OutputCurvature* curvature_;
    OutputJudge judge_;
    EvidenceWalk walk_;
};

}  // namespace

SparseShares::SparseShares(const ir::Model& model, const TransformerView& view, const Weights& weights, SparseAllocation allocation,
                           double sparsity, OtherWeights others, const OutputCurvature* curvature, const data::Split& samples,
                           const pipeline::PassContext& context)
    : allocation_(allocation), count_(weights.size()) {
    if (weights.empty() || allocation == SparseAllocation::uniform) return;
    layers_ = allocation == SparseAllocation::outputs ? OutputTrials(model, view, samples, sparsity, others, curvature, context).layersOf(weights)
                                                      : layersByInputs(model, weights, samples, context);
}

std::vector<double> SparseShares::at(double sparsity) const {
    return layers_.empty() ? std::vector<double>(count_, sparsity) : allocateSparsity(layers_, allocation_, sparsity);
}

}  // namespace tcompress::passes
