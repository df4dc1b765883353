#include "lib/data/inputs.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "lib/data/dataset.h"

namespace tcompress::data {

InputRole inputRole(std::string_view name) {
    const auto contains = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
    if (name.starts_with("past") || contains("past_key")) return InputRole::pastKeyValue;
    if (contains("token_type") || contains("segment_ids")) return InputRole::tokenType;
    if (contains("position_ids")) return InputRole::positions;
    if (contains("mask") && !contains("masked")) return InputRole::attentionMask;
    return InputRole::other;
}

std::string InputInfo::describe() const {
    if (!ranked) return fmt::format("{} of any shape", tcompress::name(dtype));
    std::vector<std::string> texts;
    for (const InputDim& dim : dims)
        texts.push_back(dim.size >= 0 ? std::to_string(dim.size) : dim.symbol.empty() ? "?" : dim.symbol);
    return fmt::format("{} [{}]", tcompress::name(dtype), fmt::join(texts, ", "));
}

std::vector<InputInfo> modelInputs(const ir::Model& model) {
    std::vector<InputInfo> inputs;
    for (const ir::Value* value : model.graph().inputs()) {
        InputInfo& info = inputs.emplace_back();
        info.name = value->name();
        info.dtype = value->dtype();
        if (const auto shape = value->shape()) {
            info.ranked = true;
            for (const std::int64_t size : *shape) info.dims.push_back({size, {}});
            if (value->type() != nullptr) {
                const auto& declared = value->type()->tensor_type().shape();
                for (int i = 0; i < declared.dim_size() && i < static_cast<int>(info.dims.size()); ++i)
                    info.dims[static_cast<std::size_t>(i)].symbol = declared.dim(i).dim_param();
            }
        }
    }
    return inputs;
}

namespace {

void lowerToIndexedRows(const ir::Value& value, std::optional<std::int64_t>& fewest, int depth) {
    constexpr int kDeepest = 4;
    for (const ir::Use& use : value.uses()) {
        if (use.node == nullptr || use.kind != ir::UseKind::input) continue;
        const ir::Node& node = *use.node;
        const ir::Value* table = nullptr;
        if (node.is("Gather") && use.index == 1) table = node.input(0);
        if (node.is("com.microsoft", "EmbedLayerNormalization") && use.index == 0) table = node.input(2);
        if (table != nullptr) {
            const auto shape = table->shape();
            const auto axis = node.attributeInt("axis", 0);
            if (!shape || axis < 0 || axis >= static_cast<std::int64_t>(shape->size())) continue;
            const std::int64_t rows = (*shape)[static_cast<std::size_t>(axis)];
            if (rows > 0) fewest = std::min(fewest.value_or(rows), rows);
        } else if (depth < kDeepest && use.index == 0) {
            for (const char* op : {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Slice", "Flatten"})
                if (node.is(op) && node.output() != nullptr)
                    lowerToIndexedRows(*node.output(), fewest, depth + 1);
        }
    }
}

}  // namespace

std::optional<std::int64_t> indexedRows(const ir::Value& value) {
    std::optional<std::int64_t> fewest;
    lowerToIndexedRows(value, fewest, 0);
    return fewest;
}

std::string describe(const Tensor& tensor) {
    return fmt::format("{} {}", name(tensor.dtype()), toString(tensor.shape()));
}

std::int64_t fixedBatchSize(const ir::Model& model) {
    std::int64_t batch = 0;
    for (const InputInfo& input : modelInputs(model))
        if (!input.dims.empty() && input.dims[0].size > 0) batch = std::max(batch, input.dims[0].size);
    return batch;
}

}  // namespace tcompress::data
