#pragma once
// Batches of sentences that are all padded to one length, cut behind the last token of the longest in the batch: a run
// costs what the sentences need. Only where a trial shows that nothing that is measured depends on the padding.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/ir/model.h"

namespace tcompress::measure {

class PaddingCut {
  public:
    /// Finds the attention mask [samples, tokens] of a dynamic length and the inputs with the same axis: the same symbol,
    /// or no symbol and the same size. A model with several masks, a cache of keys and values, or ranges of activations
    /// that are measured on each run (the padding is part of them) is never cut.
    explicit PaddingCut(const ir::Model& model);

    /// The feeds without the columns that are padding in every row, but a multiple of `multiple` of them; empty when none
    /// can go, or where it is not clear which axes go together.
    std::optional<exec::Feeds> cut(const exec::Feeds& feeds, std::int64_t multiple = 1) const;

    /// Whether the outputs of the cut batch say the same: every floating-point output (no other is measured) is unchanged,
    /// or it is [samples, tokens, channels] and its rows of tokens are, within a relative 1e-5 of its largest value; and all
    /// are finite.
    bool isFaithful(const exec::Feeds& feeds, const std::vector<Tensor>& outputs, const std::vector<Tensor>& afterCut) const;

  private:
    struct Axis {
        std::string input;
        std::size_t axis = 0;
        std::string symbol;
    };
    std::optional<Axis> mask_;
    std::vector<Axis> others_;  ///< every other dynamic axis but the samples'
};

}  // namespace tcompress::measure
