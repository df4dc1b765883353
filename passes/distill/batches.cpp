#include "passes/distill/batches.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "lib/data/inputs.h"

namespace tcompress::passes {
namespace {

/// Sentences of about one length are looked for among so many batches.
constexpr std::int64_t kBatchesSorted = 8;

/// Rows of the first axis, in the order given.
Tensor picked(const Tensor& tensor, const std::vector<std::int64_t>& rows) {
    Shape shape = tensor.shape();
    const std::size_t rowBytes = tensor.sizeBytes() / static_cast<std::size_t>(shape[0]);
    shape[0] = std::ssize(rows);
    Tensor result(tensor.dtype(), shape);
    const std::span<std::byte> to = result.mutableBytes();
    for (std::size_t i = 0; i < rows.size(); ++i)
        std::memcpy(to.data() + i * rowBytes, tensor.bytes().data() + static_cast<std::size_t>(rows[i]) * rowBytes,
                    rowBytes);
    return result;
}

template <class T>
void shuffle(std::vector<T>& values, Random& random) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

/// The masks [samples, tokens] among the arrays.
std::vector<const Tensor*> masksOf(const data::Dataset& samples) {
    std::vector<const Tensor*> masks;
    for (const auto& [name, tensor] : samples.arrays())
        if (data::inputRole(name) == data::InputRole::attentionMask && tensor.rank() == 2 && !isFloatingPoint(tensor.dtype())) masks.push_back(&tensor);
    return masks;
}

std::vector<std::int64_t> lengthsOf(const data::Dataset& samples) {
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(samples.sampleCount()));
    for (const Tensor* tensor : masksOf(samples)) {
        const std::vector<std::int64_t> mask = toInt64(*tensor);
        for (std::size_t i = 0; i < mask.size(); ++i) lengths[i / static_cast<std::size_t>(tensor->shape()[1])] += mask[i] != 0 ? 1 : 0;
    }
    return lengths;
}

/// 16 tokens, or an eighth of the longest sequence.
std::int64_t lengthStep(const data::Dataset& samples) {
    std::int64_t step = 16;
    for (const Tensor* mask : masksOf(samples)) step = std::max(step, (mask->shape()[1] + 7) / 8);
    return step;
}

}  // namespace

ShortBatches::ShortBatches(const ir::Model& model, const data::Dataset& samples) : padding_(model), multiple_(lengthStep(samples)) {}

exec::Feeds ShortBatches::cut(exec::Feeds feeds) const {
    std::optional<exec::Feeds> shorter = padding_.cut(feeds, multiple_);
    return shorter ? std::move(*shorter) : std::move(feeds);
}

LearningBatches::LearningBatches(const ir::Model& model, const data::Dataset& samples, std::int64_t size, Random random)
    : samples_(samples), size_(size), random_(random), padding_(model, samples), lengths_(lengthsOf(samples)) {}

void LearningBatches::beginEpoch() {
    std::vector<std::int64_t> order(static_cast<std::size_t>(samples_.sampleCount()));
    std::iota(order.begin(), order.end(), 0);
    shuffle(order, random_);
    // What is left over of the last batch has its turn in another epoch.
    const std::int64_t used = samples_.sampleCount() / size_ * size_;
    for (std::int64_t begin = 0; begin < used; begin += kBatchesSorted * size_) {
        const auto first = order.begin() + begin, last = order.begin() + std::min(used, begin + kBatchesSorted * size_);
        std::stable_sort(first, last, [&](std::int64_t a, std::int64_t b) {
            return lengths_[static_cast<std::size_t>(a)] < lengths_[static_cast<std::size_t>(b)];
        });
        for (auto at = first; at < last; at += size_) waiting_.emplace_back(at, at + size_);
    }
    shuffle(waiting_, random_);
}

exec::Feeds LearningBatches::next() {
    if (waiting_.empty()) beginEpoch();
    const std::vector<std::int64_t> rows = std::move(waiting_.back());
    waiting_.pop_back();
    exec::Feeds feeds;
    for (const auto& [name, tensor] : samples_.arrays()) feeds[name] = picked(tensor, rows);
    return padding_.cut(std::move(feeds));
}

}  // namespace tcompress::passes
