#pragma once
// Samples to fit to and samples held back to choose by.

#include "lib/data/dataset.h"

namespace tcompress::data {

struct Split {
    Dataset fit;
    Dataset heldBack;  ///< without samples when nothing is held back
};

/// Holds back the given share of the samples, spread evenly over the data: sample i is held back when
/// floor((i + 1) · share) > floor(i · share). 0 ≤ share < 1; at least one sample is left to fit to.
Split split(const Dataset& dataset, double heldBackShare);

}  // namespace tcompress::data
