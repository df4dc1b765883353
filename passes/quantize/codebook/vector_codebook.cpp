#include "passes/quantize/codebook/vector_codebook.h"

#include <algorithm>
#include <cmath>

#include "lib/support/check.h"
#include "passes/quantize/grid/levels.h"

namespace tcompress::passes {
namespace {

/// The root mean square of each channel.
std::vector<float> channelScales(const WeightMatrix& matrix) {
    std::vector<float> scales;
    for (std::int64_t channel = 0; channel < matrix.channels; ++channel) {
        double sum = 0;
        for (const float w : matrix.weights.subspan(static_cast<std::size_t>(channel * matrix.inputs),
                                                    static_cast<std::size_t>(matrix.inputs)))
            sum += static_cast<double>(w) * w;
        const auto scale = static_cast<float>(std::sqrt(sum / static_cast<double>(matrix.inputs)));
        scales.push_back(std::max(roundedToHalf(scale), kSmallestHalfScale));
    }
    return scales;
}

std::vector<float> scaledDown(const WeightMatrix& matrix, const std::vector<float>& scales) {
    std::vector<float> result(matrix.weights.begin(), matrix.weights.end());
    for (std::size_t i = 0; i < result.size(); ++i) result[i] /= scales[i / static_cast<std::size_t>(matrix.inputs)];
    return result;
}

/// What an error in each piece of the scaled channels costs.
std::vector<double> pieceCosts(const WeightMatrix& matrix, const std::vector<float>& scales, std::int64_t dimension) {
    std::vector<double> costs;
    for (std::int64_t channel = 0; channel < matrix.channels; ++channel) {
        const double scale = scales[static_cast<std::size_t>(channel)];
        for (std::int64_t input = 0; input < matrix.inputs; input += dimension) {
            double importance = 0;
            for (std::int64_t k = 0; k < dimension; ++k)
                importance += matrix.importance[static_cast<std::size_t>(input + k)];
            costs.push_back(importance * scale * scale);
        }
    }
    return costs;
}

/// The numbers of the nearest entries, which are taken away from the pieces.
std::vector<std::uint16_t> encoded(std::vector<float>& pieces, const Codebook& codebook) {
    std::vector<std::uint16_t> codes = encodeRows(pieces, codebook.dimension, codebook).codes;
    const auto d = static_cast<std::size_t>(codebook.dimension);
    for (std::size_t i = 0; i < codes.size(); ++i)
        for (std::size_t k = 0; k < d; ++k) pieces[i * d + k] -= codebook.entries[codes[i] * d + k];
    return codes;
}

}  // namespace

VectorTraining::VectorTraining(const VectorShape& shape, std::int64_t matrices, Random random)
    : shape_(shape), matrices_(matrices), random_(random) {}

void VectorTraining::add(const WeightMatrix& matrix) {
    const std::int64_t most = CodebookTraining().mostSamples;
    const std::int64_t count = (added_ + 1) * most / matrices_ - added_ * most / matrices_;
    ++added_;
    const std::vector<float> scales = channelScales(matrix);
    std::vector<double> costs = pieceCosts(matrix, scales, shape_.dimension);
    // Where nothing is read that is not zero all pieces are alike.
    if (*std::ranges::max_element(costs) <= 0) std::ranges::fill(costs, 1.0);
    const std::vector<float> drawn =
        drawnPieces(scaledDown(matrix, scales), costs, shape_.dimension, shape_.dimension, count, random_);
    pieces_.insert(pieces_.end(), drawn.begin(), drawn.end());
}

std::vector<Codebook> VectorTraining::codebooks() const {
    TCOMPRESS_CHECK(added_ == matrices_, "codebooks of other matrices than were announced");
    std::vector<Codebook> result;
    std::vector<float> rest = pieces_;
    for (std::int64_t stage = 0; stage < shape_.stages; ++stage) {
        result.push_back(trainCodebook(rest, {shape_.dimension, shape_.size}, random_));
        if (stage + 1 < shape_.stages) encoded(rest, result.back());
    }
    return result;
}

CodebookMatrix withVectors(const WeightMatrix& matrix, const std::vector<Codebook>& codebooks) {
    CodebookMatrix result;
    result.channels = matrix.channels;
    result.inputs = matrix.inputs;
    result.dimension = codebooks.front().dimension;
    result.size = codebooks.front().size;
    TCOMPRESS_CHECK(static_cast<std::int64_t>(matrix.weights.size()) == matrix.channels * matrix.inputs &&
                        matrix.inputs % result.dimension == 0,
                    "a matrix does not fill its shape");
    result.block = matrix.inputs;
    result.scales = channelScales(matrix);
    std::vector<float> rest = scaledDown(matrix, result.scales);
    for (const Codebook& codebook : codebooks) result.stages.push_back({codebook.entries, encoded(rest, codebook)});
    return result;
}

CodebookMatrix withVectors(const WeightMatrix& matrix, const VectorShape& shape, Random random) {
    VectorTraining training(shape, 1, random);
    training.add(matrix);
    return withVectors(matrix, training.codebooks());
}

}  // namespace tcompress::passes
