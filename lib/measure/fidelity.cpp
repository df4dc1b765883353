#include "lib/measure/fidelity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::measure {
namespace {

/// Mean over the positions whose mask is not 0; empty when there is none.
std::vector<double> maskedMean(std::span<const float> values, std::size_t length,
                               std::span<const std::int64_t> mask) {
    std::vector<double> mean(length);
    double count = 0;
    for (std::size_t t = 0; t < mask.size(); ++t) {
        if (mask[t] == 0) continue;
        count += 1;
        for (std::size_t i = 0; i < length; ++i) mean[i] += values[t * length + i];
    }
    if (count == 0) return {};
    for (double& value : mean) value /= count;
    return mean;
}

double dotOf(std::span<const double> a, std::span<const double> b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

void appendUnit(std::vector<float>& rows, std::span<const double> values) {
    const double norm = std::sqrt(dotOf(values, values));
    for (const double value : values) rows.push_back(static_cast<float>(norm > 0 ? value / norm : 0));
}

/// Independent partial sums, so that the compiler can use vector registers without changing the order of any
/// sum.
float dot(const float* a, const float* b, std::size_t length) {
    constexpr std::size_t lanes = 16;
    std::array<float, lanes> sums{};
    std::size_t i = 0;
    for (; i + lanes <= length; i += lanes)
        for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
    float sum = 0;
    for (; i < length; ++i) sum += a[i] * b[i];
    for (const float partial : sums) sum += partial;
    return sum;
}

/// KL(p ‖ q) from log-probabilities. A class that p excludes adds nothing.
double divergence(std::span<const double> logP, std::span<const double> logQ) {
    double sum = 0;
    for (std::size_t i = 0; i < logP.size(); ++i)
        if (const double p = std::exp(logP[i]); p > 0) sum += p * (logP[i] - logQ[i]);
    return std::max(sum, 0.0);  // rounding can make it a hair less than zero
}

}  // namespace

double cosine(double dot, double firstSquares, double secondSquares) {
    if (firstSquares == 0 && secondSquares == 0) return 1;
    if (firstSquares == 0 || secondSquares == 0) return 0;
    return dot / (std::sqrt(firstSquares) * std::sqrt(secondSquares));
}

std::vector<std::int32_t> nearestOthers(std::span<const float> rows, std::size_t length) {
    const auto count = static_cast<std::int64_t>(rows.size() / length);
    std::vector<std::int32_t> nearest(static_cast<std::size_t>(count), -1);
    parallelFor(count, [&](std::int64_t i) {
        float best = -std::numeric_limits<float>::infinity();
        for (std::int64_t j = 0; j < count; ++j) {
            if (j == i) continue;
            const float similarity = dot(&rows[static_cast<std::size_t>(i) * length],
                                         &rows[static_cast<std::size_t>(j) * length], length);
            if (similarity > best) {
                best = similarity;
                nearest[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(j);
            }
        }
    });
    return nearest;
}

FidelityScores::Sample FidelityScores::compare(std::span<const float> original,
                                               std::span<const float> compressed, std::int64_t rowLength,
                                               std::span<const std::int64_t> mask) const {
    Sample sample;
    const auto length = static_cast<std::size_t>(rowLength);
    std::vector<double> logP, logQ;
    if (kind_ != ScoreKind::none) logP.resize(length), logQ.resize(length);
    for (std::size_t row = 0; row * length < original.size(); ++row) {
        if (!mask.empty() && mask[row] == 0) continue;
        const auto before = original.subspan(row * length, length),
                   after = compressed.subspan(row * length, length);
        for (std::size_t i = 0; i < length; ++i) {
            const double a = before[i], b = after[i];
            sample.dot += a * b;
            sample.originalSquares += a * a;
            sample.compressedSquares += b * b;
            sample.errorSquares += (a - b) * (a - b);
            sample.largestError = std::max(sample.largestError, std::abs(a - b));
        }
        if (kind_ == ScoreKind::none) continue;
        logProbabilities(before, kind_, logP);
        logProbabilities(after, kind_, logQ);
        sample.klSum += divergence(logP, logQ);
        sample.agreements += argmax(before) == argmax(after);
        sample.rows += 1;
    }
    sample.finite = std::isfinite(sample.originalSquares) && std::isfinite(sample.compressedSquares);
    return sample;
}

void FidelityScores::add(const Tensor& original, const Tensor& compressed,
                         std::span<const std::int64_t> mask) {
    TCOMPRESS_CHECK(original.shape() == compressed.shape() && original.rank() >= 1, "outputs of one shape");
    const std::int64_t batch = original.shape()[0];
    if (original.size() == 0) return;
    const std::int64_t rowLength = original.rank() == 1 ? 1 : original.shape().back();
    const FloatView before(original), after(compressed);
    const std::size_t positions = mask.size() / static_cast<std::size_t>(batch);
    TCOMPRESS_CHECK(
        mask.empty() || static_cast<std::int64_t>(positions) * batch * rowLength == original.size(),
        "one mask value a row");

    const std::size_t first = samples_.size();
    samples_.resize(first + static_cast<std::size_t>(batch));
    std::vector<std::vector<double>> meansBefore(static_cast<std::size_t>(batch)), meansAfter(meansBefore);
    parallelFor(batch, [&](std::int64_t i) {
        const auto index = static_cast<std::size_t>(i);
        const auto itsMask = mask.subspan(index * positions, positions);
        Sample& sample = samples_[first + index];
        sample = compare(before.part(i, batch), after.part(i, batch), rowLength, itsMask);
        if (mask.empty() || !sample.finite) return;
        auto& a = meansBefore[index];
        auto& b = meansAfter[index];
        a = maskedMean(before.part(i, batch), static_cast<std::size_t>(rowLength), itsMask);
        b = maskedMean(after.part(i, batch), static_cast<std::size_t>(rowLength), itsMask);
        sample.pooled = !a.empty();
        sample.pooledCosine = cosine(dotOf(a, b), dotOf(a, a), dotOf(b, b));
    });
    if (kind_ != ScoreKind::none) return;
    for (std::size_t i = 0; i < meansBefore.size(); ++i) {
        if (meansBefore[i].empty() || static_cast<std::int64_t>(first + i) >= neighbourSamples_) continue;
        pooledLength_ = meansBefore[i].size();
        appendUnit(pooledOriginal_, meansBefore[i]);
        appendUnit(pooledCompressed_, meansAfter[i]);
    }
}

Estimate FidelityScores::neighbourAgreement() const {
    const std::size_t count = pooledLength_ == 0 ? 0 : pooledOriginal_.size() / pooledLength_;
    if (count < 2) return {};
    const auto before = nearestOthers(pooledOriginal_, pooledLength_);
    const auto after = nearestOthers(pooledCompressed_, pooledLength_);
    std::int64_t same = 0;
    for (std::size_t i = 0; i < count; ++i) same += before[i] == after[i];
    return wilson(same, static_cast<std::int64_t>(count));
}

Fidelity FidelityScores::result(const Bootstrap& options) const {
    Fidelity fidelity;
    std::vector<double> cosines, pooledCosines, klSums, agreements, rows;
    double signal = 0, error = 0, totalAgreements = 0, totalRows = 0;
    for (const Sample& sample : samples_) {
        if (!sample.finite) {
            ++fidelity.notFiniteSamples;
            continue;
        }
        cosines.push_back(cosine(sample.dot, sample.originalSquares, sample.compressedSquares));
        if (sample.pooled && kind_ == ScoreKind::none) pooledCosines.push_back(sample.pooledCosine);
        klSums.push_back(sample.klSum);
        agreements.push_back(sample.agreements);
        rows.push_back(sample.rows);
        totalAgreements += sample.agreements;
        totalRows += sample.rows;
        signal += sample.originalSquares;
        error += sample.errorSquares;
        fidelity.maxAbsoluteError = std::max(fidelity.maxAbsoluteError, sample.largestError);
    }
    fidelity.cosine = bootstrapMean(cosines, options);
    fidelity.meanPooledCosine = bootstrapMean(pooledCosines, options);
    fidelity.neighbourAgreement = neighbourAgreement();
    if (totalRows > 0) {
        fidelity.klDivergence = bootstrapRatio(klSums, rows, options);
        const bool oneRowEach = totalRows == static_cast<double>(rows.size());
        fidelity.top1Agreement = oneRowEach ? wilson(static_cast<std::int64_t>(totalAgreements),
                                                     static_cast<std::int64_t>(totalRows))
                                            : bootstrapRatio(agreements, rows, options);
        fidelity.klDivergence.samples = fidelity.top1Agreement.samples = static_cast<std::int64_t>(totalRows);
    }
    fidelity.sqnrDecibels =
        error > 0 ? 10 * std::log10(signal / error) : std::numeric_limits<double>::infinity();
    return fidelity;
}

}  // namespace tcompress::measure
