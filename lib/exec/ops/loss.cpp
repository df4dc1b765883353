// NegativeLogLikelihoodLoss: what evaluation graphs end with (SoftmaxCrossEntropyLoss is a function of it).

#include <optional>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

enum class Reduction { none, sum, mean };

Reduction reductionOf(const std::string& name) {
    if (name == "none") return Reduction::none;
    if (name == "sum") return Reduction::sum;
    if (name == "mean") return Reduction::mean;
    throw ModelError(fmt::format("reduction '{}' is unknown", name));
}

/// loss[n, …] = −weight[t] · x[n, t, …] with t = target[n, …]; 0 where t is ignore_index. The mean is weighted.
Runner makeNegativeLogLikelihoodLoss(const NodeInfo& info) {
    const Reduction reduction = reductionOf(info.attributes.text("reduction", "mean"));
    const std::optional<std::int64_t> ignored =
        info.attributes.has("ignore_index") ? std::optional(info.attributes.integer("ignore_index", 0)) : std::nullopt;
    return [reduction, ignored](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& target = context.input(1);
        const std::vector<std::int64_t> classes = integers(target);
        const std::int64_t count = x.shape().at(1);
        const std::int64_t inner = product(x.shape(), 2, x.shape().size());
        Shape expected = x.shape();
        expected.erase(expected.begin() + 1);
        if (target.shape() != expected || (context.has(2) && context.input(2).shape() != Shape{count})) {
            throw ModelError(fmt::format("targets of shape {} or their weights do not fit {}", toString(target.shape()), toString(x.shape())));
        }
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto values = x.data<T>();
            const T* weights = context.has(2) ? context.data<T>(2).data() : nullptr;
            std::vector<T> losses(classes.size());
            double sum = 0;
            double total = 0;
            for (std::size_t i = 0; i < classes.size(); ++i) {
                if (ignored && classes[i] == *ignored) continue;
                const std::int64_t chosen = normalizeIndex(classes[i], count);
                const auto at = static_cast<std::int64_t>(i);
                const double weight = weights ? static_cast<double>(weights[chosen]) : 1.0;
                const T value = values[static_cast<std::size_t>((at / inner * count + chosen) * inner + at % inner)];
                losses[i] = static_cast<T>(-value * weight);
                sum += static_cast<double>(losses[i]);
                total += weight;
            }
            if (reduction == Reduction::none) {
                context.setOutput(0, Tensor::of<T>(target.shape(), losses));
            } else {
                context.setOutput(0, Tensor::scalar(static_cast<T>(reduction == Reduction::sum ? sum : sum / total)));
            }
        });
    };
}

const OperatorRow kRows[] = {
    {"", "NegativeLogLikelihoodLoss", 12, makeNegativeLogLikelihoodLoss, kFloatTypes},
};

}  // namespace

std::span<const OperatorRow> lossOperators() { return kRows; }

}  // namespace tcompress::exec
