#pragma once
// How a share of zeros is spread over the matrices of a model.
//
//   uniform      the same share in each
//   saliency     one threshold for all: what w²·E[x²] of a weight is of what its matrix puts out
//   owl          matrices with more outliers keep more: the share of |w|·‖x‖ above five times their mean sets
//                the density, within ± 0.08 (Yin et al. 2024, "Outlier Weighed Layerwise Sparsity")
//   outputs      one threshold for what a weight adds to the error of the model's outputs: its saliency times what trials
//                of its matrix alone say that is worth there; no matrix moves from the share by more than 0.3
//   er           density in proportion to (inputs + outputs) / (inputs · outputs), the layers of a sparse random
//                graph: needs no data (Mocanu et al. 2018; "Erdős–Rényi" in Evci et al. 2020, "RigL")

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::passes {

enum class SparseAllocation { uniform, saliency, outputs, owl, er };

/// What is kept of a matrix to decide by: counts, never the scores themselves.
class SparseLayer {
  public:
    /// weights [inputs, outputs]; meanSquares [inputs] of what it reads.
    SparseLayer(std::span<const double> weights, std::span<const double> meanSquares);
    /// `worth`: what the sum of the saliencies is worth at the model's outputs, in any unit. 0 and infinity are taken
    /// for the least and the most of the others'.
    SparseLayer(std::span<const double> weights, std::span<const double> meanSquares, double worth);

    std::int64_t inputs() const { return inputs_; }
    std::int64_t outputs() const { return outputs_; }
    std::int64_t size() const { return inputs_ * outputs_; }
    /// Share of the |w|·‖x‖ that are more than kOutlierFactor times their mean.
    double outlierShare() const { return outlierShare_; }
    /// Number of weights by their saliency, as a share of the sum: cell k holds 2^(k / kCellsPerOctave − kOctaves)
    /// and a little more, the first all that is less.
    const std::vector<std::int64_t>& saliencies() const { return saliencies_; }
    /// Cells by which saliencies are to be moved to be told in the unit of the worth: its logarithm.
    double worthCells() const { return worthCells_; }

    static constexpr int kCellsPerOctave = 16, kOctaves = 80;
    static constexpr double kOutlierFactor = 5;  ///< the paper's M

  private:
    std::int64_t inputs_, outputs_;
    double outlierShare_ = 0, worthCells_ = 0;
    std::vector<std::int64_t> saliencies_;
};

/// The share of zeros of each layer, so that all together have the share `sparsity`. No layer loses all.
std::vector<double> allocateSparsity(const std::vector<SparseLayer>& layers, SparseAllocation allocation,
                                     double sparsity);

}  // namespace tcompress::passes
