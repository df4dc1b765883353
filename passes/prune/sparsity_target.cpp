#include "passes/prune/sparsity_target.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "passes/store_sparse/stored_constants.h"

namespace tcompress::passes {
namespace {

constexpr int kBisections = 6;
/// Files that are made to find a size; it is nearly linear in the sparsity.
constexpr int kFiles = 16;
/// Bytes below the limit that end the search.
constexpr std::int64_t kCloseBytes = 1024;

/// Bytes of the file with the first of each weight's values zero: which they are makes no difference.
std::int64_t bytesWith(const ir::Model& model, const std::vector<const TargetWeight*>& weights, const std::vector<double>& shares) {
    ir::Model copy = model.clone();
    ir::Edit edit(copy, "sparsity for a size");
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const Tensor& before = *weights[i]->constant->constant();
        const auto values = before.data<float>();
        const std::int64_t zeros = std::max<std::int64_t>(
            static_cast<std::int64_t>(std::floor(shares[i] * static_cast<double>(before.size()) + 1e-9)),
            std::count(values.begin(), values.end(), 0.0F));
        Tensor tensor(DType::float32, before.shape());
        const auto target = tensor.mutableData<float>();
        std::fill(target.begin() + zeros, target.end(), 1.0F);
        edit.setConstant(copy.graph().find(weights[i]->constant->name()), std::move(tensor));
    }
    edit.commit();
    return sparseFileBytes(copy);
}

}  // namespace

SparsityForSize sparsityForSize(const ir::Model& model, const std::vector<const TargetWeight*>& weights,
                                const std::function<std::vector<double>(double)>& shares, std::int64_t maxBytes,
                                std::string_view pass) {
    const auto at = [&](double sparsity) { return SparsityForSize{sparsity, bytesWith(model, weights, shares(sparsity))}; };
    SparsityForSize low = at(0), high = at(1);
    if (low.bytes <= maxBytes) return low;
    if (high.bytes > maxBytes)
        throw PassError(fmt::format("{}: {} bytes are too few; with all weights zero that it may prune the file has {}", pass,
                                    maxBytes, high.bytes));
    for (int i = 0; i < kFiles && maxBytes - high.bytes > kCloseBytes; ++i) {
        // Where the line between both crosses the limit, every fourth time the middle: the line may flatten at one end.
        const double share = i % 4 == 3 ? 0.5
                                        : static_cast<double>(low.bytes - maxBytes + kCloseBytes / 2) /
                                              static_cast<double>(low.bytes - high.bytes);
        const SparsityForSize middle = at(low.sparsity + std::clamp(share, 0.0, 1.0) * (high.sparsity - low.sparsity));
        (middle.bytes <= maxBytes ? high : low) = middle;
    }
    return high;
}

double mostSparsityThatHolds(const std::function<bool(double)>& holds) {
    double low = 0, high = 1;
    for (int i = 0; i < kBisections; ++i) {
        const double middle = (low + high) / 2;
        (holds(middle) ? low : high) = middle;
    }
    return low;
}

}  // namespace tcompress::passes
