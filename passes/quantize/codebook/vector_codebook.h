#pragma once
// Codebooks of vectors: entries for pieces of channels that are divided by their root mean square, so that pieces of
// different channels, and of different matrices, look alike. A second codebook is trained on what the first one leaves.
//
// One codebook may be trained on pieces of several matrices. What a piece costs counts relative to its matrix, and each
// matrix gives as many pieces, so that each counts by its relative error.

#include <vector>

#include "passes/quantize/codebook/codebook_matrix.h"

namespace tcompress::passes {

struct VectorShape {
    std::int64_t dimension = 2;
    std::int64_t size = 256;
    std::int64_t stages = 1;
};

/// Keeps nothing of the matrices but the pieces that were drawn.
class VectorTraining {
  public:
    /// `matrices`: how many will be added.
    VectorTraining(const VectorShape& shape, std::int64_t matrices, Random random);
    void add(const WeightMatrix& matrix);
    /// One codebook a stage.
    std::vector<Codebook> codebooks() const;

  private:
    VectorShape shape_;
    std::int64_t matrices_, added_ = 0;
    Random random_;
    std::vector<float> pieces_;
};

/// The matrix in codebooks that are there already.
CodebookMatrix withVectors(const WeightMatrix& matrix, const std::vector<Codebook>& codebooks);
/// In codebooks of its own.
CodebookMatrix withVectors(const WeightMatrix& matrix, const VectorShape& shape, Random random);

}  // namespace tcompress::passes
