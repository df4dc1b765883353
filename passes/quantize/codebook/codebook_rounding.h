#pragma once
// Numbers for weights whose codebooks are there: the entry nearest to a weight, or the sum of entries nearest to a
// piece in the norm of the layer's output.

#include "passes/quantize/codebook/codebook_matrix.h"
#include "passes/quantize/solver/error_feedback.h"

namespace tcompress::passes {

/// What the choice of a sum of entries begins with; one entry is always the nearest.
enum class PieceStart {
    nothing,  ///< the nearest entry of the first codebook, then of the next to what is left, then both again
    numbers   ///< the numbers that there are: each is chosen again given the others, and none gets worse
};

/// Chooses the numbers of one step's pieces; step.values becomes what they stand for.
void roundPieces(CodebookMatrix& matrix, const FeedbackStep& step, PieceStart start);

}  // namespace tcompress::passes
