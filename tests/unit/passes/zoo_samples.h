#pragma once
// Samples of the data in tests/data/zoo, and how far a compressed model's first output is from the original's.

#include <string>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"

namespace tcompress::test {

/// Samples [begin, end) of a data file, without ".npz".
data::Dataset samplesOf(const std::string& name, std::int64_t begin, std::int64_t end);

/// For the T5 decoder: samples of "devowel" with what the encoder makes of them.
data::Dataset behindEncoder(const data::Dataset& samples);

/// Mean square of the difference of the first outputs, relative to the original's variance.
double outputError(const ir::Model& original, const ir::Model& compressed, const data::Dataset& samples);

}  // namespace tcompress::test
