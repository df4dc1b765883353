#include "kernels/rotary.h"

#include <algorithm>
#include <array>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTaskElements = 16384;

/// y = a · cosines + sign · b · sines.
TCOMPRESS_MULTIVERSION void turn(const float* a, const float* b, float sign, const float* cosines,
                                 std::int64_t cosineStep, const float* sines, std::int64_t sineStep,
                                 std::int64_t count, float* y) {
    if (cosineStep == 1 && sineStep == 1) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = a[i] * cosines[i] + sign * b[i] * sines[i];
    } else {
        for (std::int64_t i = 0; i < count; ++i)
            y[i] = a[i] * cosines[i * cosineStep] + sign * b[i] * sines[i * sineStep];
    }
}

}  // namespace

void rotateHalves(const RotateHalves& params) {
    const Broadcast& loop = params.loop;
    const std::int64_t size = params.size;
    TCOMPRESS_CHECK(params.split >= 0 && params.split <= size, "rotateHalves: split beyond the last axis");
    if (loop.size() == 0) return;
    // The plan may have merged the last axis with those before it.
    const std::size_t rank = loop.shape.size();
    const std::int64_t inner = rank == 0 ? 1 : loop.shape.back();
    TCOMPRESS_CHECK(loop.strides.size() == 3 && inner % size == 0, "rotateHalves: the last axis is not whole");
    std::array<std::int64_t, 3> steps{};
    for (std::size_t i = 0; i < 3 && rank > 0; ++i) steps[i] = loop.strides[i].back();
    TCOMPRESS_CHECK(steps[0] == 1 || size == 1, "rotateHalves: x lies apart");
    const std::int64_t head = size - params.split;  // elements that −x[split:] fills
    parallelRanges(loop.size() / size, kTaskElements / size + 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            std::array<std::int64_t, 3> offsets{};
            std::int64_t index = row * size / inner;
            for (std::size_t i = 0; i < 3; ++i) offsets[i] = row * size % inner * steps[i];
            for (std::size_t d = rank; d-- > 1; index /= loop.shape[d - 1])
                for (std::size_t i = 0; i < 3; ++i) offsets[i] += index % loop.shape[d - 1] * loop.strides[i][d - 1];
            const float* x = params.x + offsets[0];
            const float* cosines = params.cosines + offsets[1];
            const float* sines = params.sines + offsets[2];
            float* y = params.y + row * size;
            turn(x, x + params.split, -1.0F, cosines, steps[1], sines, steps[2], head, y);
            turn(x + head, x, 1.0F, cosines + head * steps[1], steps[1], sines + head * steps[2], steps[2],
                 params.split, y + head);
        }
    });
}

}  // namespace tcompress::kernels
