#include "passes/support/sparse_allocation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace tcompress::passes {
namespace {

/// No layer is emptied.
constexpr double kMostSparse = 0.98;
/// How far OWL's densities may lie from their mean: the paper's λ.
constexpr double kOwlSpread = 0.08;
/// How far densities by outputs may lie from their mean: trials of matrices one by one do not know how errors add up.
constexpr double kOutputsSpread = 0.3;

double total(const std::vector<SparseLayer>& layers) {
    double sum = 0;
    for (const SparseLayer& layer : layers) sum += static_cast<double>(layer.size());
    return sum;
}

/// The sparsities f(t) of a family that grows with t, at the t where all together have the share asked for.
std::vector<double> solve(const std::vector<SparseLayer>& layers, double sparsity, double low, double high,
                          const std::function<double(const SparseLayer&, double)>& of) {
    const auto at = [&](double t) {
        std::vector<double> result;
        for (const SparseLayer& layer : layers) result.push_back(std::clamp(of(layer, t), 0.0, kMostSparse));
        return result;
    };
    const auto zeros = [&](const std::vector<double>& shares) {
        double sum = 0;
        for (std::size_t i = 0; i < layers.size(); ++i) sum += shares[i] * static_cast<double>(layers[i].size());
        return sum;
    };
    const double wanted = std::min(sparsity, kMostSparse) * total(layers);
    for (int step = 0; step < 60; ++step) {
        const double middle = (low + high) / 2;
        (zeros(at(middle)) < wanted ? low : high) = middle;
    }
    return at(high);
}

/// The share of a layer's weights below a saliency, cells in part by their width.
double shareBelow(const SparseLayer& layer, double cell) {
    const auto& counts = layer.saliencies();
    double below = 0;
    for (std::size_t k = 0; k < counts.size() && static_cast<double>(k) < cell; ++k)
        below += static_cast<double>(counts[k]) * std::min(1.0, cell - static_cast<double>(k));
    return below / static_cast<double>(layer.size());
}

}  // namespace

SparseLayer::SparseLayer(std::span<const double> weights, std::span<const double> meanSquares)
    : inputs_(static_cast<std::int64_t>(meanSquares.size())),
      outputs_(static_cast<std::int64_t>(weights.size() / meanSquares.size())),
      saliencies_(static_cast<std::size_t>(kCellsPerOctave * kOctaves)) {
    double sum = 0, sumOfRoots = 0;
    const auto saliency = [&](std::size_t i) {
        return weights[i] * weights[i] * meanSquares[i / static_cast<std::size_t>(outputs_)];
    };
    for (std::size_t i = 0; i < weights.size(); ++i) {
        sum += saliency(i);
        sumOfRoots += std::sqrt(saliency(i));
    }
    const double limit = kOutlierFactor * sumOfRoots / static_cast<double>(weights.size());
    std::int64_t outliers = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double value = saliency(i);
        if (std::sqrt(value) > limit) ++outliers;
        const double octave = value > 0 && sum > 0 ? std::log2(value / sum) + kOctaves : 0.0;
        const double cell = std::clamp(octave * kCellsPerOctave, 0.0, static_cast<double>(saliencies_.size() - 1));
        ++saliencies_[static_cast<std::size_t>(cell)];
    }
    outlierShare_ = static_cast<double>(outliers) / static_cast<double>(weights.size());
}

SparseLayer::SparseLayer(std::span<const double> weights, std::span<const double> meanSquares, double worth)
    : SparseLayer(weights, meanSquares) {
    worthCells_ = kCellsPerOctave * std::log2(worth);
}

std::vector<double> allocateSparsity(const std::vector<SparseLayer>& layers, SparseAllocation allocation,
                                     double sparsity) {
    switch (allocation) {
        case SparseAllocation::uniform: break;
        case SparseAllocation::saliency:
            return solve(layers, sparsity, 0, SparseLayer::kCellsPerOctave * SparseLayer::kOctaves, shareBelow);
        case SparseAllocation::outputs: {
            constexpr double kCells = SparseLayer::kCellsPerOctave * SparseLayer::kOctaves, kInfinity = std::numeric_limits<double>::infinity();
            double low = kInfinity, high = -kInfinity;
            for (const SparseLayer& layer : layers) {
                if (!std::isfinite(layer.worthCells())) continue;
                low = std::min(low, layer.worthCells());
                high = std::max(high, layer.worthCells());
            }
            if (low > high) break;
            return solve(layers, sparsity, low, high + kCells, [&](const SparseLayer& layer, double t) {
                const double share = shareBelow(layer, t - std::clamp(layer.worthCells(), low, high));
                return std::clamp(share, sparsity - kOutputsSpread, sparsity + kOutputsSpread);
            });
        }
        case SparseAllocation::er:
            return solve(layers, sparsity, -1e9, 0, [](const SparseLayer& layer, double t) {
                const auto inputs = static_cast<double>(layer.inputs()), outputs = static_cast<double>(layer.outputs());
                return 1 + t * (inputs + outputs) / (inputs * outputs);
            });
        case SparseAllocation::owl: {
            if (layers.empty()) break;
            double least = layers.front().outlierShare(), most = least;
            for (const SparseLayer& layer : layers) {
                least = std::min(least, layer.outlierShare());
                most = std::max(most, layer.outlierShare());
            }
            if (most <= least) break;
            return solve(layers, sparsity, 0, 2, [&](const SparseLayer& layer, double t) {
                return t - 2 * kOwlSpread * (layer.outlierShare() - least) / (most - least);
            });
        }
    }
    return std::vector<double>(layers.size(), sparsity);
}

}  // namespace tcompress::passes
