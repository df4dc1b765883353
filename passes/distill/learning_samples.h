#pragma once
// What a model learns from, and what it is judged by.

#include <cstdint>
#include <optional>
#include <string_view>

#include "lib/data/dataset.h"
#include "lib/pipeline/pass.h"

namespace tcompress::passes {

struct LearningSamples {
    data::Dataset fit;       ///< given ones, then made ones where they were asked for
    std::int64_t given = 0;  ///< so many of them
    data::Dataset judges;    ///< a few hundred at most
};

/// Splits the calibration samples. `enlarge` samples are learnt from for each one given (data::Enlargement); as many as the run
/// makes for all passes when it is left out. Where samples are made at all, the judges are made, too, of those that are held
/// back: passes before have chosen by these, and fitted to them in the end. Throws PassError where there are no calibration
/// data, DataError where none can be made.
LearningSamples learningSamples(const ir::Model& model, const pipeline::PassContext& context, std::string_view pass,
                                std::optional<std::int64_t> enlarge);

}  // namespace tcompress::passes
