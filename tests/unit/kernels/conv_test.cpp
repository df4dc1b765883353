#include "kernels/conv.h"

#include <catch2/catch.hpp>

#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

Convolution problem(std::int64_t batch, std::int64_t channels, std::int64_t outputs, std::int64_t groups,
                    std::array<std::int64_t, 2> input, const Window& window) {
    Convolution params;
    params.batch = batch;
    params.channels = channels;
    params.outputs = outputs;
    params.groups = groups;
    params.input = input;
    params.window = window;
    for (std::size_t d = 0; d < 2; ++d)
        params.output[d] = (input[d] + window.padBegin[d] + window.padEnd[d] -
                            (window.kernel[d] - 1) * window.dilation[d] - 1) /
                               window.stride[d] +
                           1;
    return params;
}

void check(Convolution params) {
    Restore restore;
    const auto x = randomFloats(params.batch * params.channels * params.input[0] * params.input[1], "x");
    const std::int64_t inner =
        params.channels / params.groups * params.window.kernel[0] * params.window.kernel[1];
    const auto w = randomFloats(params.outputs * inner, "w");
    const auto bias = randomFloats(params.outputs, "bias");
    params.x = x.data();
    params.w = w.data();
    const auto size =
        static_cast<std::size_t>(params.batch * params.outputs * params.output[0] * params.output[1]);
    for (const bool withBias : {false, true}) {
        params.bias = withBias ? bias.data() : nullptr;
        params.activation = withBias ? Activation::silu : Activation::none;
        std::vector<float> expected(size);
        params.y = expected.data();
        setKernelChoice(KernelChoice::reference);
        convolution(params);
        setKernelChoice(KernelChoice::fastest);
        std::shared_ptr<const ConvolutionCache> cache;
        params.cache = &cache;
        for (const int threads : {1, 2, 3}) {
            setThreadCount(threads);
            std::vector<float> y(size);
            params.y = y.data();
            convolution(params);
            REQUIRE(maxDifference(y, expected) < 1.2e-7 * static_cast<double>(inner + 60));
        }
        params.cache = nullptr;
    }
}

}  // namespace

TEST_CASE("convolution equals its definition") {
    Window plain;
    plain.kernel = {3, 3};
    plain.padBegin = plain.padEnd = {1, 1};
    SECTION("padded 3 × 3") { check(problem(2, 5, 7, 1, {9, 11}, plain)); }
    SECTION("patches, as a vision transformer cuts them") {
        Window patch;
        patch.kernel = patch.stride = {4, 4};
        check(problem(3, 3, 20, 1, {16, 12}, patch));
        check(problem(1, 3, 40, 1, {17, 49}, patch));  // a remainder belongs to no patch
        patch.kernel = patch.stride = {3, 5};
        check(problem(2, 2, 600, 1, {24, 65}, patch));
        patch.kernel = patch.stride = {1, 1};
        check(problem(2, 9, 13, 1, {5, 7}, patch));
    }
    SECTION("strides, dilations, uneven padding") {
        Window uneven;
        uneven.kernel = {3, 2};
        uneven.stride = {2, 1};
        uneven.dilation = {2, 3};
        uneven.padBegin = {1, 0};
        uneven.padEnd = {2, 3};
        check(problem(1, 4, 6, 1, {13, 10}, uneven));
    }
    SECTION("depthwise") { check(problem(2, 33, 33, 33, {8, 9}, plain)); }
    SECTION("groups with several outputs") { check(problem(1, 6, 12, 3, {5, 6}, plain)); }
    SECTION("1 × 1, large enough to be cut in pieces") { check(problem(1, 64, 256, 1, {32, 32}, Window{})); }
    SECTION("one dimension") {
        Window line;
        line.kernel = {1, 5};
        line.padBegin = line.padEnd = {0, 2};
        check(problem(1, 8, 8, 1, {1, 40}, line));
    }
}

TEST_CASE("pooling: maximum, averages with and without the padding, ceil mode") {
    const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8, 9};  // 3 × 3
    Pooling params;
    params.planes = 1;
    params.input = {3, 3};
    params.output = {2, 2};
    params.window.kernel = {2, 2};
    params.window.stride = {2, 2};
    params.x = x.data();
    std::vector<float> y(4);
    params.y = y.data();
    // The second window runs one past the end (ceil mode).
    pooling(params);
    CHECK(y == std::vector<float>{5, 6, 8, 9});
    params.kind = PoolKind::averageExcludePad;
    pooling(params);
    CHECK(y == std::vector<float>{3, 4.5, 7.5, 9});
    params.kind = PoolKind::averageIncludePad;
    pooling(params);
    CHECK(y == std::vector<float>{3, 4.5, 7.5, 9});
    params.window.padBegin = {1, 1};
    pooling(params);
    CHECK(y == std::vector<float>{0.25, 1.25, 2.75, 7});
    params.kind = PoolKind::averageExcludePad;
    pooling(params);
    CHECK(y == std::vector<float>{1, 2.5, 5.5, 7});
}
