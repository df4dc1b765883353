#include "lib/data/split.h"

#include <cmath>

#include "lib/support/check.h"

namespace tcompress::data {

namespace {

Dataset selected(const Dataset& dataset, const std::vector<bool>& keep) {
    std::map<std::string, Tensor> arrays;
    for (const auto& [name, array] : dataset.arrays()) arrays.emplace(name, compress(array, 0, keep));
    std::optional<Tensor> labels;
    if (dataset.labels()) labels = compress(*dataset.labels(), 0, keep);
    return Dataset(std::move(arrays), std::move(labels), dataset.origin());
}

}  // namespace

Split split(const Dataset& dataset, double heldBackShare) {
    TCOMPRESS_CHECK(heldBackShare >= 0 && heldBackShare < 1, "a share of samples to hold back");
    const auto heldUpTo = [&](std::int64_t count) {
        return std::floor(static_cast<double>(count) * heldBackShare);
    };
    std::vector<bool> held;
    for (std::int64_t i = 0; i < dataset.sampleCount(); ++i) held.push_back(heldUpTo(i + 1) > heldUpTo(i));
    if (heldUpTo(dataset.sampleCount()) == 0) return {dataset, {}};
    std::vector<bool> fit = held;
    fit.flip();
    return {selected(dataset, fit), selected(dataset, held)};
}

}  // namespace tcompress::data
