#pragma once
// The ridge of a refit: the error on held-back rows has one minimum over it in practice.

#include <cstddef>
#include <functional>
#include <map>
#include <span>

#include "passes/support/refit.h"

namespace tcompress::passes {

/// The choice with the least heldError among those that `choose` makes of the ridges, downhill from the middle one. `tried`:
/// those that are known already, by the number of their ridge.
inline RefitChoice leastHeldError(std::span<const double> ridges, const std::function<RefitChoice(double)>& choose,
                                  std::map<std::size_t, RefitChoice> tried = {}) {
    const auto choice = [&](std::size_t index) -> const RefitChoice& {
        const auto [found, isNew] = tried.try_emplace(index);
        if (isNew) found->second = choose(ridges[index]);
        return found->second;
    };
    std::size_t best = ridges.size() / 2;
    for (bool moved = true; moved;) {
        moved = false;
        for (const std::size_t next : {best + 1, best - 1})
            if (next < ridges.size() && choice(next).heldError < choice(best).heldError) {
                best = next;
                moved = true;
                break;
            }
    }
    return choice(best);
}

}  // namespace tcompress::passes
