#include "passes/quantize/codebook/shared_codebook.h"

#include "passes/quantize/codebook/codebook_descent.h"
#include "passes/quantize/codebook/codebook_entries.h"
#include "passes/quantize/codebook/codebook_fit.h"

namespace tcompress::passes {
namespace {

/// A layer as vectors look at it.
struct Turned {
    std::vector<float> weights;  ///< [channels, inputs]
    WeightMatrix matrix;

    explicit Turned(const SharedLayer& layer)
        : weights(transposed(layer.weights(), layer.inputs, layer.channels)),
          matrix{weights, layer.channels, layer.inputs,
                 std::vector<float>(static_cast<std::size_t>(layer.inputs), 1.0F)} {
        if (!layer.secondMoment) return;
        const std::vector<double> moment = layer.secondMoment();
        for (std::size_t i = 0; i < matrix.importance.size(); ++i)
            matrix.importance[i] = static_cast<float>(moment[i * (matrix.importance.size() + 1)]);
    }
};

double sum(const std::vector<double>& values) {
    double result = 0;
    for (const double value : values) result += value;
    return result;
}

class SharedFit {
  public:
    SharedFit(const std::vector<SharedLayer>& layers, std::vector<CodebookMatrix>& matrices)
        : layers_(layers), matrices_(matrices), shares_(layers.size(), 0.0) {}

    void turn(std::int64_t number) {
        EntryEquations equations;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            moveNumbers(i, number);
            equations.add(equationsOf(i), shares_[i]);
        }
        const std::vector<double> change = entryChange(equations, [&](std::span<const double> direction) {
            std::vector<double> all(direction.size(), 0.0);
            for (std::size_t i = 0; i < layers_.size(); ++i) {
                const OutputGradient gradient(layers_[i].secondMoment(), layers_[i].inputs, layers_[i].channels, 0);
                const std::vector<double> part = entryCurvature(matrices_[i], gradient, direction);
                for (std::size_t entry = 0; entry < all.size(); ++entry) all[entry] += shares_[i] * part[entry];
            }
            return all;
        });
        for (CodebookMatrix& matrix : matrices_) changeEntries(matrix, change);
    }

  private:
    void moveNumbers(std::size_t i, std::int64_t number) {
        const std::vector<float> weights = layers_[i].weights();
        const std::vector<double> moment = layers_[i].secondMoment();
        if (number == 0) {
            ErrorFeedback feedback;
            feedback.weights = weights;
            feedback.channels = layers_[i].channels;
            chooseByFeedback(matrices_[i], feedback, moment, 0);
        }
        descend(matrices_[i], {weights, moment, Entries::fixed, 1});
    }

    /// Also sets the layer's share in f.
    EntryEquations equationsOf(std::size_t i) {
        const std::int64_t inputs = layers_[i].inputs, channels = layers_[i].channels;
        const std::vector<float> weights = layers_[i].weights();
        OutputGradient gradient(layers_[i].secondMoment(), inputs, channels, 0);
        std::vector<float> rows(weights.size());
        gradient.product(0, inputs, weights.data(), rows.data());
        const double energy = sum(columnProducts(weights, rows, channels, 0, inputs));
        shares_[i] = energy > 0 ? 1 / energy : 0.0;
        rows = transposed(matrices_[i].decoded(), channels, inputs);
        for (std::size_t at = 0; at < rows.size(); ++at) rows[at] = weights[at] - rows[at];
        gradient.add(0, inputs, rows.data(), 1);
        return {matrices_[i], gradient};
    }

    const std::vector<SharedLayer>& layers_;
    std::vector<CodebookMatrix>& matrices_;
    std::vector<double> shares_;
};

}  // namespace

std::vector<CodebookMatrix> withSharedVectors(const std::vector<SharedLayer>& layers, const VectorShape& shape,
                                              std::int64_t turns, Random random) {
    VectorTraining training(shape, static_cast<std::int64_t>(layers.size()), random);
    for (const SharedLayer& layer : layers) training.add(Turned(layer).matrix);
    const std::vector<Codebook> codebooks = training.codebooks();
    std::vector<CodebookMatrix> matrices;
    for (const SharedLayer& layer : layers) matrices.push_back(withVectors(Turned(layer).matrix, codebooks));
    SharedFit fit(layers, matrices);
    for (std::int64_t turn = 0; turn < turns; ++turn) fit.turn(turn);
    return matrices;
}

}  // namespace tcompress::passes
