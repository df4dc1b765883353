#include <algorithm>
#include <optional>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/data/inputs.h"
#include "lib/support/random.h"

namespace tcompress::data {
namespace {

constexpr std::int64_t defaultLength = 64;
constexpr std::int64_t highestToken = 100;

std::int64_t dimSize(const InputInfo& input, std::size_t axis, std::int64_t samples,
                     const std::map<std::string, std::int64_t>& sizes) {
    const InputDim& dim = input.dims[axis];
    if (axis == 0) return samples;
    if (dim.size >= 0) return dim.size;
    if (const auto given = sizes.find(dim.symbol); given != sizes.end()) return given->second;
    return inputRole(input.name) == InputRole::pastKeyValue ? 0 : defaultLength;
}

}  // namespace

Dataset syntheticDataset(const ir::Model& model, std::int64_t samples, std::uint64_t seed,
                         const std::map<std::string, std::int64_t>& sizes) {
    std::map<std::string, Tensor> arrays;
    for (const InputInfo& input : modelInputs(model)) {
        Shape shape;
        for (std::size_t axis = 0; axis < input.dims.size(); ++axis)
            shape.push_back(dimSize(input, axis, samples, sizes));
        if (shape.empty()) shape = {samples};
        const std::int64_t count = elementCount(shape);
        Random random(seed, "data/synthetic/" + input.name);
        const InputRole role = inputRole(input.name);
        Tensor values;
        if (isFloatingPoint(input.dtype) && role != InputRole::attentionMask) {
            std::vector<float> floats(static_cast<std::size_t>(count));
            for (float& value : floats) value = static_cast<float>(random.normal());
            values = Tensor::of<float>(shape, floats);
        } else {
            const ir::Value* value = model.graph().find(input.name);
            const std::int64_t rows =
                value != nullptr ? indexedRows(*value).value_or(highestToken) : highestToken;
            const std::int64_t limit = std::min(rows, highestToken);
            std::vector<std::int64_t> integers(static_cast<std::size_t>(count));
            for (std::size_t i = 0; i < integers.size(); ++i) {
                switch (role) {
                    case InputRole::attentionMask:
                        integers[i] = 1;
                        break;
                    case InputRole::tokenType:
                        integers[i] = 0;
                        break;
                    case InputRole::positions:
                        integers[i] = static_cast<std::int64_t>(i) % shape.back();
                        break;
                    default:
                        integers[i] = limit < 2 ? 0
                                                : 1 + static_cast<std::int64_t>(random.below(
                                                          static_cast<std::uint64_t>(limit - 1)));
                }
            }
            values = Tensor::of<std::int64_t>(shape, integers);
        }
        arrays.emplace(input.name, input.dtype == DType::undefined ? values : convert(values, input.dtype));
    }
    return Dataset(std::move(arrays), std::nullopt, "synthetic");
}

}  // namespace tcompress::data
