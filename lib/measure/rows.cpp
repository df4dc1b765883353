#include "lib/measure/rows.h"

#include <algorithm>
#include <limits>

namespace tcompress::measure {

ScoreKind scoreKind(std::string_view outputName, const Tensor& output) {
    if (output.rank() < 2 || output.shape().back() < 2 || !isFloatingPoint(output.dtype()) ||
        output.size() == 0)
        return ScoreKind::none;
    if (outputName.find("logit") != std::string_view::npos) return ScoreKind::logits;
    const FloatView view(output);
    const std::int64_t rows = output.size() / output.shape().back();
    for (std::int64_t i = 0; i < rows; ++i) {
        double sum = 0;
        for (const float value : view.part(i, rows)) {
            if (!(value >= 0 && value <= 1)) return ScoreKind::none;
            sum += value;
        }
        if (std::abs(sum - 1) > 1e-3) return ScoreKind::none;
    }
    return ScoreKind::probabilities;
}

std::int64_t argmax(std::span<const float> row) {
    std::int64_t best = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
        if (std::isnan(row[i])) return -1;
        if (row[i] > row[static_cast<std::size_t>(best)]) best = static_cast<std::int64_t>(i);
    }
    return row.empty() ? -1 : best;
}

void logProbabilities(std::span<const float> row, ScoreKind kind, std::span<double> logs) {
    if (kind == ScoreKind::probabilities) {
        for (std::size_t i = 0; i < row.size(); ++i)
            logs[i] = std::log(std::max<double>(row[i], std::numeric_limits<float>::min()));
        return;
    }
    // Softmax with the maximum taken out: exponents never overflow.
    double largest = -std::numeric_limits<double>::infinity();
    for (const float value : row) largest = std::isnan(value) ? value : std::max<double>(largest, value);
    double sum = 0;
    for (const float value : row) sum += std::exp(value - largest);
    const double logSum = largest + std::log(sum);
    for (std::size_t i = 0; i < row.size(); ++i) logs[i] = row[i] - logSum;
}

}  // namespace tcompress::measure
