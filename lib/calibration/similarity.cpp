#include "lib/calibration/similarity.h"

#include <cmath>

#include "lib/calibration/collector.h"
#include "lib/support/check.h"

namespace tcompress::calibration {

void SimilaritySums::add(std::span<const Rows> sources) {
    const Rows &first = sources[0], &second = sources[1];
    TCOMPRESS_CHECK(first.rows == second.rows && first.channels == second.channels,
                    "values of different shapes are not compared");
    similarity_.rows += first.rows;
    for (std::int64_t row = 0; row < first.rows; ++row) {
        double dot = 0, squaredFirst = 0, squaredSecond = 0, squaredDifference = 0;
        const std::span<const float> a = first.row(row), b = second.row(row);
        for (std::size_t c = 0; c < a.size(); ++c) {
            const double x = a[c], y = b[c];
            dot += x * y;
            squaredFirst += x * x;
            squaredSecond += y * y;
            squaredDifference += (x - y) * (x - y);
        }
        const double norm = std::sqrt(squaredFirst * squaredSecond);
        similarity_.cosines += norm > 0 ? dot / norm : 1.0;
        similarity_.squaredDifference += squaredDifference;
        similarity_.squaredFirst += squaredFirst;
    }
}

std::vector<double> blockInfluence(const ir::Model& model, const data::Dataset& calibration,
                                   const std::vector<Span>& spans, Progress& progress,
                                   const Resources& resources) {
    Collector collector(model);
    std::vector<const SimilaritySums*> sums;
    for (const Span& span : spans) sums.push_back(&collector.add<SimilaritySums>(span.input, span.output));
    collector.run(calibration, progress, resources);
    std::vector<double> influence;
    for (const SimilaritySums* sum : sums) influence.push_back(1.0 - sum->result().meanCosine());
    return influence;
}

}  // namespace tcompress::calibration
