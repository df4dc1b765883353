#pragma once
// Codebooks moved about for what a layer's output loses, f = tr(EᵀHE), from the numbers that error feedback has
// chosen. Three moves in turns, none of which makes f larger:
//
//   numbers   each piece again, given all the others: it is moved by D best where H_pp·D = G_p (output_gradient.h),
//             and takes the entry, or of a sum one entry after another, that is nearest to there in the norm of H_pp
//   entries   all of them at once (codebook_entries.h)
//   scales    of each group of a channel, in closed form
//
// Entries are those of vectors and of k-means; levels that are the same for every model stay.
//
// Sources: Egiazarian et al. 2024, "Extreme Compression of Large Language Models via Additive Quantization" (AQLM:
// numbers and codebooks in turns on the layer's output; there by beam search and Adam); one entry of a sum after
// another: Besag 1986, "On the Statistical Analysis of Dirty Pictures" (iterated conditional modes).

#include <cstdint>
#include <span>

#include "passes/quantize/codebook/codebook_matrix.h"

namespace tcompress::passes {

enum class Entries { fixed, moved };

struct CodebookDescent {
    std::span<const float> weights;  ///< [inputs, channels]
    /// XᵀX or any multiple of it, [inputs, inputs], with whatever damping it needs.
    std::span<const double> secondMoment;
    Entries entries = Entries::moved;
    std::int64_t sweeps = 4;  ///< turns of all moves; fewer when no number changes any more
};

void descend(CodebookMatrix& matrix, const CodebookDescent& problem);

}  // namespace tcompress::passes
