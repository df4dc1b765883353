#pragma once
// Vector quantization: short pieces of rows stored as the number of the nearest entry of a codebook, which
// weighted k-means makes from the pieces themselves.
//
// Source: Lloyd 1982, "Least Squares Quantization in PCM"; for the pieces of weight matrices: Stock et al.
// 2020, "And the Bit Goes Down: Revisiting the Quantization of Neural Networks". Weighting by what a piece's
// error costs: Kim et al. 2023, "SqueezeLLM".

#include <cstdint>
#include <span>
#include <vector>

#include "lib/support/random.h"
#include "passes/quantize/grid/quantized_weights.h"

namespace tcompress::passes {

/// The nearest number that float16 has, the largest at most.
float roundedToHalf(float value);

struct Codebook {
    std::int64_t dimension = 0;  ///< values of a piece
    std::int64_t size = 0;       ///< entries; a power of two
    /// [size, dimension], exactly representable in float16.
    std::vector<float> entries;
};

struct CodebookTraining {
    std::int64_t dimension = 4;
    std::int64_t size = 256;
    std::int64_t iterations = 12;
    /// Pieces to learn from at most, drawn by their weights.
    std::int64_t mostSamples = 1 << 16;
};

/// `count` pieces of `dimension` values, drawn by their weights. `rows` [rowCount, rowLength] with rowLength a multiple
/// of the dimension; `rowWeights`: what an error in a row costs, not negative, some positive.
std::vector<float> drawnPieces(std::span<const float> rows, std::span<const double> rowWeights, std::int64_t rowLength,
                               std::int64_t dimension, std::int64_t count, Random& random);

/// Learns from all the pieces [pieceCount, dimension], each of which weighs the same.
Codebook trainCodebook(std::vector<float> pieces, const CodebookTraining& training, Random random);
/// Learns from pieces drawn from the rows.
Codebook trainCodebook(std::span<const float> rows, std::span<const double> rowWeights,
                       std::int64_t rowLength, const CodebookTraining& training, Random random);

struct CodebookCodes {
    std::vector<std::uint16_t> codes;   ///< [rowCount, rowLength / dimension]
    std::vector<double> squaredErrors;  ///< of each row
};
CodebookCodes encodeRows(std::span<const float> rows, std::int64_t rowLength, const Codebook& codebook);

}  // namespace tcompress::passes
