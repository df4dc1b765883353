// Normalizations, and the com.microsoft forms that add a skip connection or look up embeddings first.

#include "kernels/normalization.h"

#include <algorithm>
#include <cmath>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

const float* floats(const Tensor* tensor) { return tensor ? tensor->data<float>().data() : nullptr; }

void requireColumns(const Tensor* tensor, std::int64_t columns, std::string_view what) {
    if (tensor && tensor->size() != columns) {
        throw ModelError(fmt::format("{} of shape {} does not fit {} columns", what, toString(tensor->shape()), columns));
    }
}

/// Rows and columns of x, the columns from `axis` on, and the shape of the statistics.
struct RowView {
    std::int64_t rows = 0, columns = 0;
    Shape statistics;
};
RowView rowView(const Tensor& x, std::int64_t axisAttribute) {
    const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, x.rank()));
    RowView view;
    view.rows = product(x.shape(), 0, axis);
    view.columns = product(x.shape(), axis, x.shape().size());
    view.statistics = x.shape();
    std::fill(view.statistics.begin() + static_cast<std::ptrdiff_t>(axis), view.statistics.end(), 1);
    return view;
}

float* wantedFloats(OpContext& context, std::size_t output, const Shape& shape) {
    return context.wants(output) ? context.output<float>(output, shape).data() : nullptr;
}

Runner makeLayerNormalization(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", -1);
    const float epsilon = info.attributes.real("epsilon", 1e-5F);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const RowView view = rowView(x, axis);
        kernels::LayerNormalization params;
        params.rows = view.rows;
        params.columns = view.columns;
        params.x = x.data<float>().data();
        requireColumns(context.optionalInput(1), view.columns, "scale");
        requireColumns(context.optionalInput(2), view.columns, "bias");
        params.gamma = floats(context.optionalInput(1));
        params.beta = floats(context.optionalInput(2));
        params.epsilon = epsilon;
        params.y = context.output<float>(0, x.shape()).data();
        params.mean = wantedFloats(context, 1, view.statistics);
        params.invStd = wantedFloats(context, 2, view.statistics);
        kernels::layerNormalization(params);
    };
}

Runner makeRmsNormalization(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", -1);
    const float epsilon = info.attributes.real("epsilon", 1e-5F);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const RowView view = rowView(x, axis);
        kernels::RmsNormalization params;
        params.rows = view.rows;
        params.columns = view.columns;
        params.x = x.data<float>().data();
        const Tensor* scale = context.optionalInput(1);
        Tensor expanded;
        if (scale && scale->size() != view.columns) {
            const std::vector<Shape> operands{scale->shape()};
            std::byte* elements = nullptr;
            const Shape columns(x.shape().end() - (x.rank() - normalizeAxis(axis, x.rank())), x.shape().end());
            if (kernels::broadcastShape(columns, scale->shape()) != columns) requireColumns(scale, view.columns, "scale");
            expanded = context.temporary(DType::float32, columns, &elements);
            kernels::expand(kernels::broadcast(columns, operands), typedBytes(*scale), 4, elements);
            scale = &expanded;
        }
        params.gamma = floats(scale);
        params.epsilon = epsilon;
        params.y = context.output<float>(0, x.shape()).data();
        params.invStd = wantedFloats(context, 1, view.statistics);
        kernels::rmsNormalization(params);
    };
}

/// skip has x's shape, or lacks its batch axis (or has 1 there).
std::int64_t skipRowsOf(const Tensor& x, const Tensor& skip, std::int64_t columns) {
    if (skip.size() == x.size()) return 0;
    if (skip.size() == 0 || x.size() % skip.size() != 0 || skip.shape().back() != columns) {
        throw ModelError(fmt::format("skip of shape {} does not fit input {}", toString(skip.shape()), toString(x.shape())));
    }
    return skip.size() / columns;
}

/// Inputs: x, skip, gamma, [beta,] bias; outputs: y, mean, invStd, sum.
template <class Params>
void fillSkip(OpContext& context, Params& params, std::size_t biasInput) {
    const Tensor& x = context.input(0);
    const Tensor& skip = context.input(1);
    params.columns = x.shape().back();
    params.rows = params.columns == 0 ? 0 : x.size() / params.columns;
    params.x = x.data<float>().data();
    params.skip = skip.data<float>().data();
    params.skipRows = skipRowsOf(x, skip, params.columns);
    requireColumns(context.optionalInput(2), params.columns, "gamma");
    requireColumns(context.optionalInput(biasInput), params.columns, "bias");
    params.gamma = floats(context.optionalInput(2));
    params.skipBias = floats(context.optionalInput(biasInput));
    params.y = context.output<float>(0, x.shape()).data();
    params.sum = wantedFloats(context, 3, x.shape());
    Shape statistics = x.shape();
    statistics.back() = 1;
    params.invStd = wantedFloats(context, 2, statistics);
}

Runner makeSkipLayerNormalization(const NodeInfo& info) {
    const float epsilon = info.attributes.real("epsilon", 1e-12F);
    return [epsilon](OpContext& context) {
        kernels::LayerNormalization params;
        params.epsilon = epsilon;
        fillSkip(context, params, 4);
        params.beta = floats(context.optionalInput(3));
        Shape statistics = context.input(0).shape();
        statistics.back() = 1;
        params.mean = wantedFloats(context, 1, statistics);
        kernels::layerNormalization(params);
    };
}

Runner makeSkipRmsNormalization(const NodeInfo& info) {
    const float epsilon = info.attributes.real("epsilon", 1e-12F);
    return [epsilon](OpContext& context) {
        kernels::RmsNormalization params;
        params.epsilon = epsilon;
        fillSkip(context, params, 3);
        kernels::rmsNormalization(params);
    };
}

const float* embeddingRow(const Tensor& table, std::int64_t index, std::string_view what) {
    const std::int64_t rows = table.shape().at(0);
    if (index < 0 || index >= rows) {
        throw DataError(fmt::format("{} {} is outside the table of {} rows", what, index, rows));
    }
    return table.data<float>().data() + index * table.shape().at(1);
}

/// word[id] + position[s] (+ segment[segment id]), then LayerNormalization. Inputs: ids, segment ids, word, position and
/// segment tables, gamma, beta, mask, position ids. Output 1 is the number of positions that are not masked.
Runner makeEmbedLayerNormalization(const NodeInfo& info) {
    const float epsilon = info.attributes.real("epsilon", 1e-12F);
    return [epsilon](OpContext& context) {
        const Tensor& ids = context.input(0);
        const Tensor* segments = context.optionalInput(1);
        const Tensor& words = context.input(2);
        const Tensor& positions = context.input(3);
        const std::vector<std::int64_t> tokens = integers(ids);
        const std::vector<std::int64_t> segmentIds = segments ? integers(*segments) : std::vector<std::int64_t>{};
        const std::vector<std::int64_t> positionIds =
            context.has(8) ? integers(context.input(8)) : std::vector<std::int64_t>{};
        const std::int64_t batch = ids.shape().at(0);
        const std::int64_t length = ids.shape().at(1);
        const std::int64_t hidden = words.shape().at(1);
        const Shape shape{batch, length, hidden};
        std::byte* bytes = nullptr;
        const Tensor sum = context.temporary(DType::float32, shape, &bytes);
        auto* s = reinterpret_cast<float*>(bytes);
        for (std::int64_t row = 0; row < batch * length; ++row) {
            const auto at = static_cast<std::size_t>(row);
            const std::int64_t position =
                positionIds.empty() ? row % length : positionIds[at % positionIds.size()];
            const float* word = embeddingRow(words, tokens[at], "token");
            const float* place = embeddingRow(positions, position, "position");
            float* target = s + row * hidden;
            for (std::int64_t i = 0; i < hidden; ++i) target[i] = word[i] + place[i];
            if (segments) {
                const float* segment = embeddingRow(context.input(4), segmentIds[at], "segment");
                for (std::int64_t i = 0; i < hidden; ++i) target[i] += segment[i];
            }
        }
        kernels::LayerNormalization params;
        params.rows = batch * length;
        params.columns = hidden;
        params.x = s;
        params.gamma = floats(context.optionalInput(5));
        params.beta = floats(context.optionalInput(6));
        params.epsilon = epsilon;
        params.y = context.output<float>(0, shape).data();
        kernels::layerNormalization(params);
        if (context.wants(1)) {
            const auto counts = context.output<std::int32_t>(1, {batch});
            std::fill(counts.begin(), counts.end(), 0);
            if (const Tensor* mask = context.optionalInput(7)) {
                const std::vector<std::int64_t> seen = integers(*mask);
                for (std::size_t i = 0; i < seen.size(); ++i) counts[i / static_cast<std::size_t>(length)] += seen[i] == 1;
            }
        }
        if (context.wants(2)) context.setOutput(2, sum);
    };
}

void runGroupNormalization(OpContext& context, std::int64_t groups, const Tensor& gamma, const Tensor& beta, float epsilon) {
    const Tensor& x = context.input(0);
    kernels::GroupNormalization params;
    params.outer = x.shape().at(0);
    params.channels = x.shape().at(1);
    params.inner = product(x.shape(), 2, x.shape().size());
    params.groups = groups == 0 ? params.channels : groups;
    if (params.groups <= 0 || params.channels % params.groups != 0) {
        throw ModelError(fmt::format("{} channels do not divide into {} groups", params.channels, params.groups));
    }
    params.x = x.data<float>().data();
    requireColumns(&gamma, params.channels, "scale");
    requireColumns(&beta, params.channels, "bias");
    params.gamma = floats(&gamma);
    params.beta = floats(&beta);
    params.epsilon = epsilon;
    params.y = context.output<float>(0, x.shape()).data();
    kernels::groupNormalization(params);
}

Runner makeInstanceNormalization(const NodeInfo& info) {
    const float epsilon = info.attributes.real("epsilon", 1e-5F);
    return [epsilon](OpContext& context) {
        runGroupNormalization(context, 0, context.input(1), context.input(2), epsilon);
    };
}

/// Scale and bias have one entry a group in opset 18 and one a channel since 21.
Runner makeGroupNormalization(const NodeInfo& info) {
    const float epsilon = info.attributes.real("epsilon", 1e-5F);
    const std::int64_t groups = info.attributes.integer("num_groups", 1);
    const bool perGroup = info.version < 21;
    return [=](OpContext& context) {
        Tensor gamma = context.input(1);
        Tensor beta = context.input(2);
        const std::int64_t channels = context.input(0).shape().at(1);
        if (perGroup && gamma.size() == groups && groups != channels && groups > 0 && channels % groups == 0) {
            const auto spread = [&](const Tensor& values) {
                Tensor result(DType::float32, {channels});
                const auto target = result.mutableData<float>();
                for (std::int64_t c = 0; c < channels; ++c) {
                    target[static_cast<std::size_t>(c)] = values.data<float>()[static_cast<std::size_t>(c / (channels / groups))];
                }
                return result;
            };
            gamma = spread(gamma);
            beta = spread(beta);
        }
        runGroupNormalization(context, groups, gamma, beta, epsilon);
    };
}

/// x / (|x|₁ or ‖x‖₂) along an axis.
Runner makeLpNormalization(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", -1);
    const std::int64_t p = info.attributes.integer("p", 2);
    return [attribute, p](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        const std::int64_t size = x.shape()[axis];
        const std::int64_t inner = product(x.shape(), axis + 1, x.shape().size());
        const auto source = x.data<float>();
        const auto y = context.output<float>(0, x.shape());
        for (std::int64_t row = 0; row < x.size() / std::max<std::int64_t>(1, size); ++row) {
            const std::int64_t base = row / inner * size * inner + row % inner;
            double norm = 0;
            for (std::int64_t i = 0; i < size; ++i) {
                const double value = source[static_cast<std::size_t>(base + i * inner)];
                norm += p == 1 ? std::abs(value) : value * value;
            }
            norm = p == 1 ? norm : std::sqrt(norm);
            for (std::int64_t i = 0; i < size; ++i) {
                const auto at = static_cast<std::size_t>(base + i * inner);
                y[at] = norm == 0 ? 0.0F : static_cast<float>(source[at] / norm);
            }
        }
    };
}

/// Local response normalization over channels (Krizhevsky et al., 2012): x / (bias + alpha / size · Σ x²)^beta.
Runner makeLrn(const NodeInfo& info) {
    const float alpha = info.attributes.real("alpha", 1e-4F);
    const float beta = info.attributes.real("beta", 0.75F);
    const float bias = info.attributes.real("bias", 1);
    const std::int64_t size = info.attributes.integer("size", 1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::int64_t channels = x.shape().at(1);
        const std::int64_t inner = product(x.shape(), 2, x.shape().size());
        const auto source = x.data<float>();
        const auto y = context.output<float>(0, x.shape());
        for (std::int64_t i = 0; i < x.size(); ++i) {
            const std::int64_t channel = i / inner % channels;
            const std::int64_t first = std::max<std::int64_t>(0, channel - (size - 1) / 2);
            const std::int64_t last = std::min(channels - 1, channel + size / 2);
            double sum = 0;
            for (std::int64_t c = first; c <= last; ++c) {
                const double value = source[static_cast<std::size_t>(i + (c - channel) * inner)];
                sum += value * value;
            }
            y[static_cast<std::size_t>(i)] =
                static_cast<float>(source[static_cast<std::size_t>(i)] / std::pow(bias + alpha / static_cast<float>(size) * sum, beta));
        }
    };
}

constexpr FloatSupport kSingle = FloatSupport::float32;

const OperatorRow kRows[] = {
    {"", "LpNormalization", 1, makeLpNormalization, kFloatTypes, kSingle},
    {"", "LRN", 1, makeLrn, kFloatTypes, kSingle},
    {"", "LayerNormalization", 1, makeLayerNormalization, kFloatTypes, kSingle},
    {"", "RMSNormalization", 23, makeRmsNormalization, kFloatTypes, kSingle},
    {"", "SimplifiedLayerNormalization", 1, makeRmsNormalization, kFloatTypes, kSingle},
    {"", "InstanceNormalization", 6, makeInstanceNormalization, kFloatTypes, kSingle},
    {"", "GroupNormalization", 18, makeGroupNormalization, kFloatTypes, kSingle},
    {kContribDomain, "LayerNormalization", 1, makeLayerNormalization, kFloatTypes, kSingle},
    {kContribDomain, "SimplifiedLayerNormalization", 1, makeRmsNormalization, kFloatTypes, kSingle},
    {kContribDomain, "SkipLayerNormalization", 1, makeSkipLayerNormalization, kFloatTypes, kSingle},
    {kContribDomain, "SkipSimplifiedLayerNormalization", 1, makeSkipRmsNormalization, kFloatTypes, kSingle},
    {kContribDomain, "EmbedLayerNormalization", 1, makeEmbedLayerNormalization,
     TypeSet{DType::int32, DType::int64}, kSingle},
};

}  // namespace

std::span<const OperatorRow> normalizationOperators() { return kRows; }

}  // namespace tcompress::exec
