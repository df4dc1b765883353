// BatchNormalization, with the statistics given or, in training mode, the batch's own.

#include "kernels/normalization.h"

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

/// Mean and variance of each channel over the batch and all other axes.
struct ChannelMoments {
    std::vector<float> mean, variance;
};
ChannelMoments channelMoments(const kernels::BatchNormalization& params) {
    ChannelMoments moments;
    const double count = static_cast<double>(params.outer * params.inner);
    for (std::int64_t c = 0; c < params.channels; ++c) {
        const auto average = [&](auto&& value) {
            double sum = 0;
            for (std::int64_t i = 0; i < params.outer * params.inner; ++i) {
                sum += value(static_cast<double>(params.x[(i / params.inner * params.channels + c) * params.inner + i % params.inner]));
            }
            return sum / count;
        };
        const double mean = average([](double x) { return x; });
        moments.mean.push_back(static_cast<float>(mean));
        moments.variance.push_back(static_cast<float>(average([&](double x) { return (x - mean) * (x - mean); })));
    }
    return moments;
}

/// momentum · running + (1 - momentum) · current
void updateRunning(std::span<const float> running, const std::vector<float>& current, float momentum, std::span<float> updated) {
    for (std::size_t i = 0; i < current.size(); ++i) updated[i] = running[i] * momentum + current[i] * (1 - momentum);
}

/// In training mode the batch's own moments count, and outputs 1 and 2 are the running ones brought forward.
Runner makeBatchNormalization(const NodeInfo& info) {
    const bool training = info.attributes.integer("training_mode", 0) != 0;
    const float epsilon = info.attributes.real("epsilon", 1e-5F);
    const float momentum = info.attributes.real("momentum", 0.9F);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        kernels::BatchNormalization params;
        params.outer = x.shape().at(0);
        params.channels = x.rank() > 1 ? x.shape()[1] : 1;
        params.inner = x.rank() > 1 ? product(x.shape(), 2, x.shape().size()) : 1;
        params.x = x.data<float>().data();
        const auto channelInput = [&](std::size_t i) {
            const Tensor& values = context.input(i);
            if (values.size() == params.channels) return values.data<float>().data();
            throw ModelError(fmt::format("input {} of shape {} does not fit {} channels", i, toString(values.shape()), params.channels));
        };
        params.gamma = channelInput(1);
        params.beta = channelInput(2);
        params.mean = channelInput(3);
        params.variance = channelInput(4);
        params.epsilon = epsilon;
        ChannelMoments moments;
        if (training) {
            moments = channelMoments(params);
            params.mean = moments.mean.data();
            params.variance = moments.variance.data();
            if (context.outputCount() > 1) updateRunning(context.data<float>(3), moments.mean, momentum, context.output<float>(1, {params.channels}));
            if (context.outputCount() > 2) updateRunning(context.data<float>(4), moments.variance, momentum, context.output<float>(2, {params.channels}));
        }
        params.y = context.output<float>(0, x.shape()).data();
        kernels::batchNormalization(params);
    };
}

const OperatorRow kRows[] = {
    {"", "BatchNormalization", 7, makeBatchNormalization, kFloatTypes, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> batchNormalizationOperators() { return kRows; }

}  // namespace tcompress::exec
