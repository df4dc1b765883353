#pragma once
// Refinement of a choice by trials: change a little at random, keep what is better. The number of trials is fixed and the
// random stream named, so that the same choice comes out again.

#include <optional>
#include <utility>

namespace tcompress::passes {

/// `propose(state)` gives a neighbour, or nothing when it finds none; `error(state)` judges. Returns the best state and its
/// error.
template <class State, class Propose, class Error>
std::pair<State, double> refinedByTrials(State best, double bestError, int trials, Propose propose, Error error) {
    for (int trial = 0; trial < trials; ++trial) {
        std::optional<State> next = propose(best);
        if (!next) continue;
        const double nextError = error(*next);
        if (!(nextError < bestError)) continue;
        best = std::move(*next);
        bestError = nextError;
    }
    return {std::move(best), bestError};
}

}  // namespace tcompress::passes
