#pragma once
// How alike two values of one shape are, row by row: the input and the output of a block, or a value of the
// original model and the same value of the edited one.

#include <string>

#include "lib/calibration/archive.h"
#include "lib/calibration/resources.h"
#include "lib/calibration/statistic.h"
#include "lib/data/dataset.h"
#include "lib/support/progress.h"

namespace tcompress::calibration {

/// Sums over rows, float64.
struct Similarity {
    std::int64_t rows = 0;
    double cosines = 0;            ///< Σ cosine(first, second); 1 where one of them is 0
    double squaredDifference = 0;  ///< Σ ‖first − second‖²
    double squaredFirst = 0;       ///< Σ ‖first‖²

    double meanCosine() const { return rows == 0 ? 1.0 : cosines / static_cast<double>(rows); }
    /// ‖first − second‖² / ‖first‖²; 0 where both are 0.
    double relativeError() const {
        return squaredFirst > 0 ? squaredDifference / squaredFirst : squaredDifference;
    }
};

class SimilaritySums : public Statistic {
  public:
    SimilaritySums(Source first, Source second) : first_(first), second_(second) {}
    const Similarity& result() const { return similarity_; }

    std::vector<Source> sources() const override { return {first_, second_}; }
    void add(std::span<const Rows> sources) override;

    std::string kind() const override { return "similarity"; }
    void transfer(Archive& archive) override { archive(similarity_); }

  private:
    Source first_, second_;
    Similarity similarity_;
};

/// A stretch of the residual stream: two values of the same shape.
struct Span {
    const ir::Value* input;
    const ir::Value* output;
};

/// Block influence (Men et al. 2024, "ShortGPT"): 1 − mean over tokens of the cosine between a span's input
/// and output. 0 for a span that sees no row.
std::vector<double> blockInfluence(const ir::Model& model, const data::Dataset& calibration,
                                   const std::vector<Span>& spans, Progress& progress,
                                   const Resources& resources = {});

}  // namespace tcompress::calibration
