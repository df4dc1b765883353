#pragma once
// Evidence from calibration data: statistics of chosen values, gathered while the model runs. Only the
// statistics are kept, so memory does not grow with the number of samples. Sums are accumulated in double in
// a fixed order: the same bytes for any number of threads.

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "lib/support/progress.h"

namespace tcompress::pipeline {

/// What is gathered about a float value seen as rows × channels (channels = the last axis). Rows of padding
/// are left out: where a value's leading axes are [samples, tokens] and the data hold an `attention_mask` of
/// that shape, rows whose mask is 0 do not count.
struct ChannelStatistics {
    std::int64_t rows = 0;
    std::vector<double> meanAbsolute;
    std::vector<double> mean;
    /// XᵀX / rows, channels × channels row-major; empty unless asked for.
    std::vector<double> secondMoment;
};

enum class Moments { first, second };

using ValueSet = std::set<const ir::Value*>;

/// Throws DataError when the data do not fit the model, PassError when a value turns out not to be finite.
std::map<const ir::Value*, ChannelStatistics> collectChannelStatistics(const ir::Model& model,
                                                                       const data::Dataset& calibration,
                                                                       const ValueSet& values,
                                                                       Moments moments, Progress& progress);

/// A stretch of the residual stream: two values of the same shape.
struct Span {
    const ir::Value* input;
    const ir::Value* output;
};

/// Block influence (Men et al. 2024, "ShortGPT"): 1 − mean over tokens of the cosine between a span's input
/// and output.
std::vector<double> blockInfluence(const ir::Model& model, const data::Dataset& calibration,
                                   const std::vector<Span>& spans, Progress& progress);

}  // namespace tcompress::pipeline
