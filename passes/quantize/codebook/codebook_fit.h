#pragma once
// One layer in codebooks, with everything that has to be chosen chosen on rows that were not fitted to.
//
// What the layer should become is the regression towards the original's output (refit.h); ridge and share of the
// residual stream's error are those whose codebook, by error feedback, loses least on held-back rows. Then numbers,
// entries and scales are moved for the output (codebook_descent.h), where held-back rows gain. The winner is made
// again on all rows, and a constant behind the layer takes up the mean of the error.

#include "passes/quantize/codebook/codebook_options.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {

struct CodebookFit {
    CodebookMatrix codes;
    LinearLayer layer;     ///< what the codes stand for, and the bias
    double error = 0;      ///< of the output on held-back rows, relative
    bool refined = false;  ///< moving about was worth it
};

/// In codebooks of its own.
CodebookFit fitCodebook(const LayerProblem& problem, const CodebookOptions& options, Random random);
/// In the codebooks that `shared` has, which stay; its scales and numbers are where the layer's begin.
CodebookFit fitCodebook(const LayerProblem& problem, const CodebookOptions& options, const CodebookMatrix& shared);

/// A row-major matrix [rows, columns] as [columns, rows].
std::vector<float> transposed(std::span<const float> values, std::int64_t rows, std::int64_t columns);

}  // namespace tcompress::passes
