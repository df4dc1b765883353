#pragma once
// Which inputs of a linear layer can go at the least cost, when the weights that stay adapt: the Optimal Brain
// Surgeon's answer for whole structures, one at a time, with running updates of the inverse.
//
//   error(W) = error(W*) + tr((W − W*)ᵀ·H·(W − W*)),   P = H⁻¹
//   removing inputs S:   cost  tr(W_Sᵀ·P_SS⁻¹·W_S)
//                        W ← W − P_:S·P_SS⁻¹·W_S,   P ← P − P_:S·P_SS⁻¹·P_S:
//
// Both updates are exact, so the costs add up to what the best weights of the inputs that stay would miss.
// Sources: Hassibi and Stork 1992, "Second order derivatives for network pruning: Optimal Brain Surgeon";
// Frantar and Alistarh 2022, "Optimal Brain Compression"; Kurtic et al. 2023, "ZipLM" (structures).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tcompress::passes {

/// A layer that reads the structures. H [inputs, inputs] is positive definite, `weights` the optimum W* [inputs,
/// outputs]; groups[g] are the inputs that structure g carries here; they do not overlap. `metric` A [outputs, outputs],
/// positive definite, is what errors of outputs count by: costs are then tr(W_Sᵀ·P_SS⁻¹·W_S·A), and the weights that stay
/// adapt as without (empty: the identity).
struct RemovalProblem {
    std::vector<double> hessian;
    std::vector<double> weights;
    std::int64_t outputs = 0;
    std::vector<std::vector<std::int64_t>> groups;
    std::vector<double> metric = {};
};

struct RemovalOrder {
    std::vector<std::size_t> groups;  ///< in the order of their removal
    std::vector<double> error;        ///< what is lost in all after each removal
};

/// Looks at the weights on the way, which are the optimum of the inputs that stay.
struct RemovalVisitor {
    std::vector<std::size_t> after;  ///< numbers of structures gone, ascending
    /// Gets the index into `after`, the structures gone so far, and for each problem the rows of the inputs that stay,
    /// in their order.
    std::function<void(std::size_t, const RemovalOrder&, const std::vector<std::vector<double>>&)> visit;
};

/// Removes `count` structures, each time the one that costs all its readers together the least, ties by number.
RemovalOrder removalOrder(std::vector<RemovalProblem> problems, std::size_t count, const RemovalVisitor& visitor = {});

}  // namespace tcompress::passes
