#pragma once
// What each weight's rounding does to the model's outputs: one weight at a time is rounded to nearest, the
// rest stays as it is, and the outputs on samples are compared with the original's.

#include <cstdint>
#include <string>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "lib/support/progress.h"

namespace tcompress::passes {

struct SensitivityRequest {
    std::vector<std::int64_t> bits{8, 6, 5, 4, 3, 2};
    std::int64_t groupSize = 64;  ///< as quantize/weight-only
    std::vector<std::string> targets, ignore;
};

struct WeightSensitivity {
    struct Damage {
        std::int64_t bits = 0;
        std::int64_t bytes = 0;  ///< codes, scales and zero points
        /// ‖y − ŷ‖² / ‖y‖² over samples, the mean over the model's floating-point outputs (output_judge.h).
        double damage = 0;
    };
    std::string site;  ///< its first site, as reports call it
    std::string role;
    std::int64_t weights = 0;
    std::vector<Damage> damages;  ///< in the order of the bits asked for
};

/// In the order of the model. Weights that cannot be rounded are left out. Throws PassError when no output of
/// the model is of a floating-point type.
std::vector<WeightSensitivity> measureSensitivity(const ir::Model& model, const data::Dataset& samples,
                                                  const SensitivityRequest& request, Progress& progress);

}  // namespace tcompress::passes
