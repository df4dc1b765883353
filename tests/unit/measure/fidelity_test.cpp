#include "lib/measure/fidelity.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace tcompress::measure {
namespace {

Tensor randomTensor(const Shape& shape, const char* purpose, double scale = 1) {
    Random random(5, purpose);
    Tensor tensor(DType::float32, shape);
    for (float& value : tensor.mutableData<float>()) value = static_cast<float>(scale * random.normal());
    return tensor;
}

Tensor sum(const Tensor& a, const Tensor& b) {
    Tensor result(DType::float32, a.shape());
    for (std::size_t i = 0; i < a.data<float>().size(); ++i)
        result.mutableData<float>()[i] = a.data<float>()[i] + b.data<float>()[i];
    return result;
}

Fidelity fidelity(const Tensor& a, const Tensor& b, std::vector<std::int64_t> mask = {},
                  ScoreKind kind = ScoreKind::none) {
    FidelityScores scores(kind, 2048);
    scores.add(a, b, mask);
    return scores.result({200, 1});
}

TEST_CASE("fidelity by hand: cosine, SQNR, largest error", "[measure]") {
    const Fidelity result =
        fidelity(Tensor::of<float>({2, 2}, {1, 0, 3, 4}), Tensor::of<float>({2, 2}, {1, 1, 3, 4.5f}));
    const double second = (9 + 18) / (5 * std::sqrt(9 + 20.25));
    CHECK(result.cosine.value == Approx((1 / std::sqrt(2.0) + second) / 2));
    CHECK(result.cosine.samples == 2);
    CHECK(result.sqnrDecibels == Approx(10 * std::log10(26 / 1.25)));
    CHECK(result.maxAbsoluteError == 1);
    CHECK(result.klDivergence.samples == 0);
    CHECK(result.meanPooledCosine.samples == 0);
    CHECK(result.neighbourAgreement.samples == 0);
}

TEST_CASE("equal outputs are equal, zeros too", "[measure]") {
    const Tensor a = randomTensor({4, 3, 5}, "a");
    const Fidelity result = fidelity(a, a, std::vector<std::int64_t>(12, 1));
    CHECK(result.cosine.value == Approx(1).epsilon(1e-12));
    CHECK(std::isinf(result.sqnrDecibels));
    CHECK(result.maxAbsoluteError == 0);
    CHECK(result.neighbourAgreement.value == 1);
    const Tensor zero(DType::float32, {1, 2});
    CHECK(fidelity(zero, zero).cosine.value == 1);
    CHECK(fidelity(zero, Tensor::of<float>({1, 2}, {1, 0})).cosine.value == 0);
}

TEST_CASE("KL divergence and top-1 agreement by hand", "[measure]") {
    const Tensor a = Tensor::of<float>({2, 2}, {std::log(3.0f), 0, 0, 1});
    const Tensor b = Tensor::of<float>({2, 2}, {0, 0.5f, 0, 1});
    const Fidelity result = fidelity(a, b, {}, ScoreKind::logits);
    const double q = std::exp(0.5) / (1 + std::exp(0.5));
    const double kl = 0.75 * std::log(0.75 / (1 - q)) + 0.25 * std::log(0.25 / q);
    CHECK(result.klDivergence.value == Approx(kl / 2));
    CHECK(result.top1Agreement.value == 0.5);
    // Adding a constant to a row of logits changes no distribution.
    CHECK(fidelity(a, Tensor::of<float>({2, 2}, {std::log(3.0f) + 5, 5, -7, -6}), {}, ScoreKind::logits)
              .klDivergence.value == Approx(0).margin(1e-6));
    const Tensor p = Tensor::of<float>({1, 2}, {0.75f, 0.25f}), r = Tensor::of<float>({1, 2}, {0.5f, 0.5f});
    CHECK(fidelity(p, r, {}, ScoreKind::probabilities).klDivergence.value ==
          Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)));
}

/// The zoo's definition, spelled out: masked mean of the token states of each sentence, cosine between the
/// models, and the nearest other sentence in each model.
struct Reference {
    double cosine = 0, agreement = 0;
};
Reference reference(const Tensor& a, const Tensor& b, const std::vector<std::int64_t>& mask) {
    const auto n = static_cast<std::size_t>(a.shape()[0]), t = static_cast<std::size_t>(a.shape()[1]),
               h = static_cast<std::size_t>(a.shape()[2]);
    const auto pooled = [&](const Tensor& x) {
        std::vector<std::vector<double>> rows(n, std::vector<double>(h));
        for (std::size_t i = 0; i < n; ++i) {
            double count = 0;
            for (std::size_t j = 0; j < t; ++j) {
                if (mask[i * t + j] == 0) continue;
                ++count;
                for (std::size_t k = 0; k < h; ++k) rows[i][k] += x.data<float>()[(i * t + j) * h + k];
            }
            for (double& value : rows[i]) value /= count;
        }
        return rows;
    };
    const auto cos = [](const std::vector<double>& x, const std::vector<double>& y) {
        double xy = 0, xx = 0, yy = 0;
        for (std::size_t k = 0; k < x.size(); ++k) xy += x[k] * y[k], xx += x[k] * x[k], yy += y[k] * y[k];
        return xy / std::sqrt(xx * yy);
    };
    const auto p = pooled(a), q = pooled(b);
    const auto nearest = [&](const std::vector<std::vector<double>>& rows, std::size_t i) {
        std::size_t best = i == 0 ? 1 : 0;
        for (std::size_t j = 0; j < n; ++j)
            if (j != i && cos(rows[i], rows[j]) > cos(rows[i], rows[best])) best = j;
        return best;
    };
    Reference result;
    for (std::size_t i = 0; i < n; ++i) {
        result.cosine += cos(p[i], q[i]) / static_cast<double>(n);
        result.agreement += nearest(p, i) == nearest(q, i) ? 1.0 / static_cast<double>(n) : 0.0;
    }
    return result;
}

TEST_CASE("masked mean cosine and neighbours against the definition", "[measure]") {
    for (const std::int64_t hidden : {1, 7, 16, 33}) {
        const Shape shape{23, 5, hidden};
        const Tensor a = randomTensor(shape, "a"), b = sum(a, randomTensor(shape, "noise", 0.4));
        std::vector<std::int64_t> mask(23 * 5, 0);
        Random random(1, "mask");
        for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 5 == 0 || random.below(2) == 1;
        const Fidelity result = fidelity(a, b, mask);
        const Reference expected = reference(a, b, mask);
        CHECK(result.meanPooledCosine.value == Approx(expected.cosine).epsilon(1e-9));
        // With one hidden unit every cosine is 1 or -1 and the nearest is a tie.
        if (hidden > 1) CHECK(result.neighbourAgreement.value == Approx(expected.agreement));
        CHECK(result.neighbourAgreement.samples == 23);
    }
}

TEST_CASE("padding changes nothing", "[measure]") {
    const Shape shape{3, 4, 6};
    const Tensor a = randomTensor(shape, "a");
    Tensor b = sum(a, randomTensor(shape, "noise", 0.1)), c = b;
    const std::vector<std::int64_t> mask{1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0};
    for (std::size_t i = 0; i < mask.size(); ++i)
        for (std::size_t k = 0; k < 6; ++k)
            if (mask[i] == 0) c.mutableData<float>()[i * 6 + k] = 1e6f;
    for (const ScoreKind kind : {ScoreKind::none, ScoreKind::logits}) {
        const Fidelity first = fidelity(a, b, mask, kind), second = fidelity(a, c, mask, kind);
        CHECK(first.cosine.value == second.cosine.value);
        CHECK(first.sqnrDecibels == second.sqnrDecibels);
        CHECK(first.maxAbsoluteError == second.maxAbsoluteError);
        CHECK(first.klDivergence.value == second.klDivergence.value);
        CHECK(first.top1Agreement.value == second.top1Agreement.value);
    }
}

TEST_CASE("fidelity does not depend on batches or threads", "[measure]") {
    const Shape shape{10, 3, 4};
    const Tensor a = randomTensor(shape, "a"), b = sum(a, randomTensor(shape, "noise", 0.2));
    const auto part = [&](const Tensor& tensor, std::size_t begin, std::size_t end) {
        return Tensor::of<float>({static_cast<std::int64_t>(end - begin), 3, 4},
                                 tensor.data<float>().subspan(begin * 12, (end - begin) * 12));
    };
    FidelityScores pieces(ScoreKind::logits, 2048);
    for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, 1}, {1, 8}, {8, 10}})
        pieces.add(part(a, begin, end), part(b, begin, end), {});
    const Fidelity split = pieces.result({100, 1});
    for (const int threads : {1, 2, 3}) {
        setThreadCount(threads);
        const Fidelity whole = fidelity(a, b, {}, ScoreKind::logits);
        CHECK(whole.cosine.value == split.cosine.value);
        CHECK(whole.klDivergence.value == split.klDivergence.value);
        CHECK(whole.sqnrDecibels == split.sqnrDecibels);
    }
    setThreadCount(0);
}

TEST_CASE("samples that are not finite are counted and left out", "[measure]") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const Fidelity result =
        fidelity(Tensor::of<float>({2, 2}, {1, 0, 1, 2}), Tensor::of<float>({2, 2}, {nan, 0, 1, 2}));
    CHECK(result.notFiniteSamples == 1);
    CHECK(result.cosine.value == Approx(1));
    CHECK(result.cosine.samples == 1);
}

}  // namespace
}  // namespace tcompress::measure
