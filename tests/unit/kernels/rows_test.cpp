// Softmax and the normalizations: everything that works a row at a time.

#include <catch2/catch.hpp>

#include "kernels/normalization.h"
#include "kernels/softmax.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

std::vector<double> softmaxOf(const std::vector<double>& x) {
    double max = -INFINITY;
    for (const double v : x) max = std::max(max, v);
    double sum = 0;
    std::vector<double> y;
    for (const double v : x) {
        y.push_back(std::exp(v - max));
        sum += y.back();
    }
    for (double& v : y) v /= sum;
    return y;
}

}  // namespace

TEST_CASE("softmax and log-softmax over any axis") {
    Restore restore;
    for (const std::int64_t axis : {1, 3, 15, 16, 17, 40, 1000})
        for (const std::int64_t inner : {1, 5}) {
            const std::int64_t outer = 3;
            const std::vector<float> x = randomFloats(outer * axis * inner, "x", 5);
            std::vector<float> y(x.size());
            std::vector<float> logs(x.size());
            softmax(Softmax{SoftmaxKind::softmax, x.data(), y.data(), outer, axis, inner});
            softmax(Softmax{SoftmaxKind::logSoftmax, x.data(), logs.data(), outer, axis, inner});
            for (std::int64_t o = 0; o < outer; ++o)
                for (std::int64_t i = 0; i < inner; ++i) {
                    std::vector<double> row;
                    for (std::int64_t a = 0; a < axis; ++a) row.push_back(x[(o * axis + a) * inner + i]);
                    const std::vector<double> expected = softmaxOf(row);
                    for (std::int64_t a = 0; a < axis; ++a) {
                        const std::size_t at = (o * axis + a) * inner + i;
                        // x − max, up to 40 here, is rounded to 2^-24 of itself, and so is the exponent.
                        REQUIRE(std::abs(y[at] - expected[a]) <= 1.2e-7 * 40 * expected[a]);
                        REQUIRE(std::abs(logs[at] - std::log(expected[a])) <= 1.2e-7 * 48);
                    }
                }
        }
}

TEST_CASE("softmax at the edges: large values, NaN, in place") {
    std::vector<float> x = {1000, 1001, -INFINITY, 999};
    softmax(Softmax{SoftmaxKind::softmax, x.data(), x.data(), 1, 4, 1});
    CHECK(x[1] == Approx(0.66524).epsilon(1e-4));
    CHECK(x[2] == 0);
    std::vector<float> y = {1, NAN, 2};
    softmax(Softmax{SoftmaxKind::softmax, y.data(), y.data(), 1, 3, 1});
    for (const float v : y) CHECK(std::isnan(v));
}

TEST_CASE("softmax with an additive mask by strides") {
    Restore restore;
    const std::int64_t batch = 2, heads = 3, queries = 4, keys = 37;
    const std::vector<float> x = randomFloats(batch * heads * queries * keys, "x", 3);
    std::vector<float> mask(static_cast<std::size_t>(batch * keys), 0.0F);
    for (std::size_t i = 0; i < mask.size(); i += 3) mask[i] = -INFINITY;
    for (std::int64_t i = 0; i < keys; ++i)
        mask[static_cast<std::size_t>(keys + i)] = -INFINITY;  // nothing to see
    std::vector<float> y(x.size());
    MaskedSoftmax params{x.data(),     y.data(), {batch, heads, queries}, keys, 0.5F, mask.data(),
                         {keys, 0, 0}, 1};
    softmax(params);
    for (std::int64_t row = 0; row < heads * queries; ++row) {
        std::vector<double> scores;
        for (std::int64_t i = 0; i < keys; ++i) scores.push_back(0.5 * x[row * keys + i] + mask[i]);
        const std::vector<double> expected = softmaxOf(scores);
        for (std::int64_t i = 0; i < keys; ++i)
            REQUIRE(y[row * keys + i] == Approx(expected[i]).epsilon(1e-5));
    }
    for (std::size_t i = y.size() / 2; i < y.size(); ++i) REQUIRE(y[i] == 0.0F);
}

TEST_CASE("layer normalization with and without everything that is optional") {
    Restore restore;
    for (const std::int64_t n : {1, 3, 15, 16, 31, 32, 33, 100, 384})
        for (int options = 0; options < 16; ++options) {
            const std::int64_t rows = 7;
            // A mean far from zero: one pass over squares would lose it.
            std::vector<float> x = randomFloats(rows * n, "x");
            for (float& v : x) v += 300.0F;
            const std::vector<float> skip = randomFloats(rows * n, "skip");
            const std::vector<float> skipBias = randomFloats(n, "skipBias");
            const std::vector<float> gamma = randomFloats(n, "gamma");
            const std::vector<float> beta = randomFloats(n, "beta");
            std::vector<float> y(x.size());
            std::vector<float> sum(x.size());
            std::vector<float> mean(rows);
            std::vector<float> invStd(rows);
            LayerNormalization params{rows, n, x.data()};
            if (options & 1) params.skip = skip.data();
            if (options & 2) params.skipBias = skipBias.data();
            if (options & 4) params.gamma = gamma.data();
            if (options & 8) params.beta = beta.data();
            if (options & 1) params.sum = sum.data();
            params.mean = mean.data();
            params.invStd = invStd.data();
            params.y = y.data();
            layerNormalization(params);
            for (std::int64_t r = 0; r < rows; ++r) {
                std::vector<double> s;
                double m = 0;
                for (std::int64_t i = 0; i < n; ++i) {
                    float v = x[r * n + i];
                    if (options & 1) v += skip[r * n + i];
                    if (options & 2) v += skipBias[i];
                    s.push_back(v);
                    m += v;
                    if (options & 1) REQUIRE(sum[r * n + i] == v);
                }
                m /= static_cast<double>(n);
                double variance = 0;
                for (const double v : s) variance += (v - m) * (v - m);
                variance /= static_cast<double>(n);
                const double inv = 1 / std::sqrt(variance + 1e-5);
                REQUIRE(mean[r] == Approx(m).epsilon(1e-6));
                // The mean itself is only known to half a unit of 300 in float32: 1.5e-5 before the scaling.
                REQUIRE(invStd[r] == Approx(inv).epsilon(n == 1 ? 1e-3 : 2e-4));
                for (std::int64_t i = 0; i < n; ++i) {
                    double expected = (s[i] - m) * inv;
                    const double g = options & 4 ? gamma[i] : 1;
                    expected = expected * g + (options & 8 ? beta[i] : 0);
                    REQUIRE(std::abs(y[r * n + i] - expected) <= 4e-5 * inv * (1 + std::abs(g)));
                }
            }
        }
}

TEST_CASE("rms normalization, skip rows repeated over the batch") {
    const std::int64_t rows = 6, n = 21;
    const std::vector<float> x = randomFloats(rows * n, "x");
    const std::vector<float> skip = randomFloats(3 * n, "skip");
    const std::vector<float> gamma = randomFloats(n, "gamma");
    std::vector<float> y(x.size());
    RmsNormalization params{rows, n, x.data(), skip.data(), 3, nullptr, gamma.data(), 1e-6F, y.data()};
    rmsNormalization(params);
    for (std::int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::int64_t i = 0; i < n; ++i) squares += std::pow(x[r * n + i] + skip[r % 3 * n + i], 2);
        const double inv = 1 / std::sqrt(squares / n + 1e-6);
        for (std::int64_t i = 0; i < n; ++i)
            REQUIRE(y[r * n + i] ==
                    Approx((x[r * n + i] + skip[r % 3 * n + i]) * inv * gamma[i]).margin(1e-6));
    }
}

TEST_CASE("batch, group and instance normalization") {
    const std::int64_t outer = 2, channels = 6, inner = 5;
    const std::vector<float> x = randomFloats(outer * channels * inner, "x");
    const std::vector<float> gamma = randomFloats(channels, "gamma");
    const std::vector<float> beta = randomFloats(channels, "beta");
    const std::vector<float> mean = randomFloats(channels, "mean");
    const std::vector<float> variance = {0.5F, 1, 2, 3, 0.1F, 4};
    std::vector<float> y(x.size());
    batchNormalization({outer, channels, inner, x.data(), gamma.data(), beta.data(), mean.data(),
                        variance.data(), 1e-3F, y.data()});
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t c = i / inner % channels;
        REQUIRE(y[i] ==
                Approx((x[i] - mean[c]) / std::sqrt(variance[c] + 1e-3) * gamma[c] + beta[c]).margin(2e-6));
    }
    for (const std::int64_t groups : {1, 3, 6}) {
        groupNormalization(
            {outer, channels, inner, groups, x.data(), gamma.data(), beta.data(), 1e-3F, y.data()});
        const std::int64_t size = channels / groups * inner;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const std::size_t first = i / size * size;
            double m = 0;
            double v = 0;
            for (std::int64_t j = 0; j < size; ++j) m += x[first + j];
            m /= static_cast<double>(size);
            for (std::int64_t j = 0; j < size; ++j) v += (x[first + j] - m) * (x[first + j] - m);
            v /= static_cast<double>(size);
            const std::size_t c = i / inner % channels;
            REQUIRE(y[i] == Approx((x[i] - m) / std::sqrt(v + 1e-3) * gamma[c] + beta[c]).margin(4e-6));
        }
    }
}
