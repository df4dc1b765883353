#include "lib/measure/padding.h"

#include <algorithm>
#include <cmath>

#include "lib/data/inputs.h"
#include "lib/measure/rows.h"
#include "lib/tensor/finite.h"

namespace tcompress::measure {
namespace {

bool measuresRanges(const ir::Model& model) {
    const auto& nodes = model.graph().nodes();
    return std::any_of(nodes.begin(), nodes.end(), [](const auto& node) { return node->opType().starts_with("Dynamic"); });
}

/// One behind the last column in which a row has a token.
std::int64_t tokensNeeded(const Tensor& mask) {
    const std::vector<std::int64_t> values = toInt64(mask);
    const std::int64_t length = mask.shape()[1];
    std::int64_t needed = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
        if (values[i] != 0) needed = std::max(needed, static_cast<std::int64_t>(i) % length + 1);
    return needed;
}

Tensor firstOf(const Tensor& tensor, std::size_t axis, std::int64_t count) {
    std::vector<bool> keep(static_cast<std::size_t>(tensor.shape()[axis]));
    std::fill_n(keep.begin(), count, true);
    return compress(tensor, static_cast<std::int64_t>(axis), keep);
}

float largest(std::span<const float> values) {
    float most = 0;
    for (const float value : values) most = std::max(most, std::abs(value));
    return most;
}

}  // namespace

PaddingCut::PaddingCut(const ir::Model& model) {
    std::optional<Axis> mask;
    for (const data::InputInfo& input : data::modelInputs(model)) {
        const data::InputRole role = data::inputRole(input.name);
        if (!input.ranked || role == data::InputRole::pastKeyValue) return;
        const bool isMask = role == data::InputRole::attentionMask;
        if (isMask && (mask || input.dims.size() != 2 || input.dims[1].size >= 0)) return;
        for (std::size_t axis = 1; axis < input.dims.size(); ++axis) {
            if (input.dims[axis].size >= 0) continue;
            Axis found{input.name, axis, input.dims[axis].symbol};
            if (isMask)
                mask = std::move(found);
            else
                others_.push_back(std::move(found));
        }
    }
    if (!measuresRanges(model)) mask_ = std::move(mask);
}

std::optional<exec::Feeds> PaddingCut::cut(const exec::Feeds& feeds, std::int64_t multiple) const {
    if (!mask_ || others_.empty()) return std::nullopt;
    const Tensor& mask = feeds.at(mask_->input);
    if (mask.rank() != 2 || mask.size() == 0 || isFloatingPoint(mask.dtype())) return std::nullopt;
    const std::int64_t length = mask.shape()[1], tokens = tokensNeeded(mask);
    const std::int64_t needed = std::min(length, (tokens + multiple - 1) / multiple * multiple);
    if (needed == 0 || needed == length) return std::nullopt;
    exec::Feeds result = feeds;
    result[mask_->input] = firstOf(mask, mask_->axis, needed);
    for (const Axis& other : others_) {
        Tensor& tensor = result.at(other.input);
        const bool isNamed = !other.symbol.empty() && !mask_->symbol.empty();
        const bool hasItsSize = tensor.shape()[other.axis] == length;
        if (isNamed && other.symbol != mask_->symbol) {
            // Another axis that happens to be as long may be tied to it by arithmetic.
            if (hasItsSize) return std::nullopt;
            continue;
        }
        if (!hasItsSize) return std::nullopt;
        tensor = firstOf(tensor, other.axis, needed);
    }
    return result;
}

bool PaddingCut::isFaithful(const exec::Feeds& feeds, const std::vector<Tensor>& outputs,
                            const std::vector<Tensor>& afterCut) const {
    constexpr float kTolerance = 1e-5F;
    const Tensor& mask = feeds.at(mask_->input);
    const std::vector<std::int64_t> isToken = toInt64(mask);
    const std::int64_t samples = mask.shape()[0], length = mask.shape()[1];
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const Tensor &whole = outputs[i], &part = afterCut[i];
        if (!isFloatingPoint(whole.dtype())) continue;
        const FloatView before(whole), after(part);
        if (!allFinite(before.values())) return false;
        const float allowed = kTolerance * largest(before.values());
        const auto agree = [&](std::span<const float> a, std::span<const float> b) {
            return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                              [&](float x, float y) { return std::abs(x - y) <= allowed; });
        };
        if (whole.shape() == part.shape()) {
            if (!agree(before.values(), after.values())) return false;
            continue;
        }
        const bool isOfTokens = whole.rank() == 3 && part.rank() == 3 && whole.shape()[0] == samples &&
                                whole.shape()[1] == length && part.shape()[0] == samples &&
                                part.shape()[2] == whole.shape()[2];
        if (!isOfTokens) return false;
        const std::int64_t left = part.shape()[1];
        for (std::int64_t row = 0; row < samples * length; ++row) {
            if (isToken[static_cast<std::size_t>(row)] == 0) continue;
            const std::int64_t sample = row / length, token = row % length;
            if (token >= left || !agree(before.part(row, samples * length), after.part(sample * left + token, samples * left)))
                return false;
        }
    }
    return true;
}

}  // namespace tcompress::measure
