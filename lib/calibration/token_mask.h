#pragma once
// Which rows of a value are real tokens, and which are padding.

#include <vector>

#include "lib/exec/executor.h"

namespace tcompress::calibration {

/// The attention masks of a batch: integer or boolean inputs [samples, tokens] with the role that
/// data::inputRole gives them; 0 = padding. Other masks (float, more axes) say nothing here.
class TokenMask {
  public:
    TokenMask() = default;
    explicit TokenMask(const exec::Feeds& feeds);

    /// One flag for each row of a tensor seen as rows × channels. Rows count where no mask says they are
    /// padding: for tensors [samples, tokens, …, channels] and [samples · tokens, channels] of the mask's
    /// size. Empty: all rows count.
    std::vector<bool> rowsOf(const Shape& shape) const;
    /// The same for each element of a tensor [samples, tokens] of the mask's size. Empty: all count.
    std::vector<bool> elementsOf(const Shape& shape) const;

  private:
    struct Mask {
        Shape shape;
        std::vector<std::int64_t> tokens;
    };
    std::vector<Mask> masks_;
};

}  // namespace tcompress::calibration
