#pragma once
// Runs the masked and the cut model on the same random inputs.

#include "lib/analysis/shrink.h"
#include "tests/unit/analysis/masking.h"

namespace tcompress::analysis {

struct CutResult {
    double difference = 0;  ///< largest |masked - cut| relative to the largest |masked|
    double effect = 0;      ///< largest |masked - original| relative to the largest |original|
};

/// Cuts `keep` from a copy and compares. Inputs at the probe sizes and at others; caches start as zeros. A
/// position that `wrong` (when not empty) keeps instead must show: it is given to the cut model only.
CutResult compareCut(const ir::Model& model, const TransformerView& view, const KeepMasks& keep,
                     const KeepMasks& wrong = {});

}  // namespace tcompress::analysis
