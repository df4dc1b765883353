#include "passes/remove_heads/attention_entropy.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "lib/calibration/stream.h"
#include "lib/calibration/token_mask.h"
#include "lib/exec/executor.h"
#include "passes/support/structure.h"

namespace tcompress::passes {

using analysis::TransformerView;
using calibration::Side;

namespace {

/// An attention layer's weights [samples, …, queries, keys] and which of its axes the heads are.
struct HeadWeights {
    const ir::Value* value = nullptr;
    std::size_t axis = 0;
    std::vector<std::int64_t> unitOf;
};

std::optional<HeadWeights> weightsOf(const TransformerView& view, const UnitLayer& layer) {
    for (const analysis::AttentionLayer& attention : view.attention) {
        if (attention.o != layer.consumers || attention.softmax == nullptr || !attention.softmax->is("Softmax")) continue;
        const ir::Value* value = attention.softmax->output(0);
        const auto axes = view.axes->axes.find(value);
        if (axes == view.axes->axes.end()) continue;
        for (std::size_t axis = 1; axis + 2 < axes->second.size(); ++axis) {
            std::vector<std::int64_t> units = leafPositions(*view.axes->store, axes->second[axis], layer.leaf);
            if (std::all_of(units.begin(), units.end(), [](std::int64_t unit) { return unit >= 0; }) && !units.empty())
                return HeadWeights{value, axis, std::move(units)};
        }
    }
    return std::nullopt;
}

/// 1 − H(p) / log(keys with weight); a query that sees one key has no choice, and is certain of nothing.
double certaintyOf(std::span<const float> weights) {
    double entropy = 0;
    std::int64_t keys = 0;
    for (const float weight : weights)
        if (weight > 0) {
            entropy -= static_cast<double>(weight) * std::log(static_cast<double>(weight));
            ++keys;
        }
    return keys < 2 ? 0 : 1 - entropy / std::log(static_cast<double>(keys));
}

}  // namespace

void addCertainty(const Tensor& weights, std::size_t headAxis, const std::vector<std::int64_t>& unitOf,
                  const std::vector<bool>& isToken, CertaintySums& sums) {
    const Shape& shape = weights.shape();
    const std::int64_t keys = shape.back(), queries = shape[shape.size() - 2], rows = elementCount(shape) / std::max<std::int64_t>(1, keys);
    std::int64_t behind = 1;  // rows from one head to the next
    for (std::size_t axis = headAxis + 1; axis + 1 < shape.size(); ++axis) behind *= shape[axis];
    const auto values = weights.data<float>();
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t sample = row / (rows / shape.front()), query = row % queries;
        if (!isToken.empty() && !isToken[static_cast<std::size_t>(sample * queries + query)]) continue;
        const auto unit = static_cast<std::size_t>(
            unitOf[static_cast<std::size_t>(row / behind % shape[headAxis])]);
        sums.certainty[unit] += certaintyOf(values.subspan(static_cast<std::size_t>(row * keys), static_cast<std::size_t>(keys)));
        sums.count[unit] += 1;
    }
}

namespace {

/// Sums of all groups while the model runs: a tensor is looked at as it is computed, and never kept.
class CertaintyObserver : public exec::Observer {
  public:
    CertaintyObserver(const TransformerView& view, const std::vector<UnitLayers>& groups) {
        for (const UnitLayers& group : groups) {
            const auto units = static_cast<std::size_t>(view.axes->store->leafSize(group.leaf));
            sums_.emplace_back(CertaintySums{std::vector<double>(units), std::vector<double>(units)});
            std::vector<HeadWeights> layers;
            for (const UnitLayer& layer : group.layers)
                if (std::optional<HeadWeights> found = weightsOf(view, layer)) layers.push_back(std::move(*found));
            if (layers.size() < group.layers.size())
                sums_.back().reset();
            else
                for (HeadWeights& layer : layers) layers_[layer.value].push_back({std::move(layer), sums_.size() - 1});
        }
    }

    void begin(const exec::Feeds& feeds) { mask_ = calibration::TokenMask(feeds); }
    bool wants(const ir::Value& value) const override { return layers_.contains(&value); }
    void observe(const ir::Value& value, const Tensor& tensor) override {
        for (const auto& [layer, group] : layers_.at(&value)) {
            if (tensor.dtype() != DType::float32) sums_[group].reset();
            if (!sums_[group]) continue;
            const Shape& shape = tensor.shape();
            addCertainty(tensor, layer.axis, layer.unitOf, mask_.elementsOf({shape.front(), shape[shape.size() - 2]}),
                         *sums_[group]);
        }
    }
    bool isIdle() const { return layers_.empty(); }

    std::vector<std::optional<std::vector<double>>> means() const {
        std::vector<std::optional<std::vector<double>>> result;
        for (const std::optional<CertaintySums>& sums : sums_) {
            result.emplace_back();
            if (!sums) continue;
            result.back() = sums->certainty;
            for (std::size_t unit = 0; unit < sums->count.size(); ++unit)
                (*result.back())[unit] /= std::max(1.0, sums->count[unit]);
        }
        return result;
    }

  private:
    struct Layer {
        HeadWeights weights;
        std::size_t group;
    };
    std::map<const ir::Value*, std::vector<Layer>> layers_;
    std::vector<std::optional<CertaintySums>> sums_;  ///< by group
    calibration::TokenMask mask_;
};

}  // namespace

std::vector<std::optional<std::vector<double>>> attentionCertainty(const ir::Model& model, const TransformerView& view,
                                                                   const std::vector<UnitLayers>& groups,
                                                                   const data::Dataset& samples,
                                                                   const pipeline::PassContext& context) {
    CertaintyObserver observer(view, groups);
    if (observer.isIdle()) return observer.means();
    const calibration::Stream stream = context.stream(model, samples);
    exec::Executor executor(model, {.outputs = std::vector<const ir::Value*>()}, &observer);
    for (std::size_t batch = 0; batch < stream.batchCount(); ++batch) {
        const exec::Feeds feeds = stream.feeds(Side::edited, batch);
        observer.begin(feeds);
        executor.run(feeds);
        context.progress().step(0);
    }
    return observer.means();
}

}  // namespace tcompress::passes
