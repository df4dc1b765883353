#pragma once
// What removing heads and removing neurons ask for alike: how the units that go are found, and whether the weights that
// read the others are fitted again.

#include <optional>
#include <string>

#include "lib/support/diagnostics.h"
#include "passes/support/output_curvature.h"

namespace tcompress::passes {

enum class Ranking {
    automatic,
    reconstruction,  ///< by what the output misses once the others' weights are fitted again
    otherwise,       ///< by a score of the units themselves, or by their numbers
};

struct UnitRequest {
    Ranking ranking = Ranking::automatic;
    Loss loss = Loss::layer;
    std::optional<bool> compensate;  ///< left out: when there are calibration data

    /// What outputs miss cannot be known without data: where there are none, fitting again is what asks for them.
    bool fitsAgain(bool hasCalibration) const;
};

/// Notes what contradicts itself under `pointer`. `score` is the importance that does without fitting again.
void checkUnitRequest(const UnitRequest& request, const std::string& score, const std::string& pointer,
                      Diagnostics& diagnostics);

}  // namespace tcompress::passes
