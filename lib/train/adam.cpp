#include "lib/train/adam.h"

#include <cmath>
#include <cstdint>

#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::train {

void Adam::step(std::span<float> weights, std::span<const float> gradient, double rate) {
    TCOMPRESS_CHECK(weights.size() == gradient.size(), "a gradient has the shape of its weights");
    first_.resize(weights.size());
    second_.resize(weights.size());
    power1_ *= options_.beta1;
    power2_ *= options_.beta2;
    const auto beta1 = static_cast<float>(options_.beta1), beta2 = static_cast<float>(options_.beta2);
    const auto keep = static_cast<float>(1 - rate * options_.weightDecay), epsilon = static_cast<float>(options_.epsilon);
    const auto step = static_cast<float>(rate / (1 - power1_)), correction = static_cast<float>(1 / (1 - power2_));
    const bool isPruned = zeros_ == Zeros::stay;
    constexpr std::int64_t kGrain = 1 << 15;
    parallelRanges(static_cast<std::int64_t>(weights.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
        float *const w = weights.data(), *const m = first_.data(), *const v = second_.data();
        const float* const g = gradient.data();
        for (std::int64_t i = begin; i < end; ++i) {
            m[i] = beta1 * m[i] + (1 - beta1) * g[i];
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
            const float moved = keep * w[i] - step * m[i] / (std::sqrt(v[i] * correction) + epsilon);
            w[i] = isPruned && w[i] == 0 ? 0 : moved;
        }
    });
}

}  // namespace tcompress::train
