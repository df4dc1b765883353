#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>
#include <optional>

#include "lib/data/dataset.h"
#include "lib/data/inputs.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::data {
namespace {

using Arrays = std::map<std::string, Tensor>;

std::pair<std::int64_t, std::int64_t> integerRange(DType type) {
    switch (type) {
        case DType::int8:
            return {-128, 127};
        case DType::uint8:
            return {0, 255};
        case DType::int16:
            return {-32768, 32767};
        case DType::uint16:
            return {0, 65535};
        case DType::int32:
            return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
        case DType::uint32:
            return {0, std::numeric_limits<std::uint32_t>::max()};
        case DType::uint64:
            return {0, std::numeric_limits<std::int64_t>::max()};
        default:
            return {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()};
    }
}

/// How other programs begin the names of labels.
constexpr std::string_view kLikeLabels[] = {"label", "Label", "target", "class", "y_"};

bool isCount(DType type) { return isInteger(type) || type == DType::boolean; }

class Fitter {
  public:
    Fitter(const Dataset& dataset, const ir::Model& model)
        : origin_(dataset.origin()),
          samples_(dataset.sampleCount()),
          isLabelled_(dataset.labels().has_value()),
          inputs_(modelInputs(model)),
          arrays_(dataset.arrays()) {
        for (const ir::Value* input : model.graph().inputs())
            if (const auto rows = indexedRows(*input)) rows_.emplace(input->name(), *rows);
    }

    Arrays fit() {
        renameUnnamed();
        forgetEmptyCaches();
        for (const InputInfo& input : inputs_)
            if (const auto array = arrays_.find(input.name); array != arrays_.end())
                checkIndices(input, fitted_.emplace(input.name, conform(input, array->second)).first->second);
        for (const InputInfo& input : inputs_)
            if (!fitted_.contains(input.name)) fitted_.emplace(input.name, derive(input));
        checkSymbols();
        noteUnused();
        return std::move(fitted_);
    }

  private:
    [[noreturn]] void misfit(const InputInfo& input, const Tensor& array, std::string_view why) const {
        throw DataError(fmt::format("{}: input '{}': the model wants {}, the file has {}{}", origin_,
                                    input.name, input.describe(), describe(array), why));
    }

    const InputInfo* inputNamed(std::string_view name) const {
        for (const InputInfo& input : inputs_)
            if (input.name == name) return &input;
        return nullptr;
    }

    /// A lone array goes to the only input that nothing can derive; "input_3" of a test data set to the third
    /// input.
    void renameUnnamed() {
        std::vector<std::string> missing;
        for (const InputInfo& input : inputs_)
            if (!arrays_.contains(input.name) && inputRole(input.name) == InputRole::other)
                missing.push_back(input.name);
        const auto rename = [&](const std::string& from, const std::string& to) {
            log::debug("{}: array '{}' is taken for input '{}'", origin_, from, to);
            auto node = arrays_.extract(from);
            node.key() = to;
            arrays_.insert(std::move(node));
        };
        if (arrays_.size() == 1 && missing.size() == 1 && inputNamed(arrays_.begin()->first) == nullptr)
            return rename(arrays_.begin()->first, missing.front());
        std::vector<std::pair<std::string, std::string>> renames;
        for (const auto& [name, array] : arrays_) {
            std::size_t index = 0;
            constexpr std::string_view prefix = "input_";
            if (!std::string_view(name).starts_with(prefix) || inputNamed(name) != nullptr) continue;
            const char* end = name.data() + name.size();
            if (std::from_chars(name.data() + prefix.size(), end, index).ptr == end &&
                index < inputs_.size() && !arrays_.contains(inputs_[index].name))
                renames.emplace_back(name, inputs_[index].name);
        }
        for (const auto& [from, to] : renames) rename(from, to);
    }

    /// An empty key/value cache is made for any model: one of as many heads as another model had says nothing.
    void forgetEmptyCaches() {
        for (const InputInfo& input : inputs_)
            if (const auto array = arrays_.find(input.name); array != arrays_.end() && array->second.size() == 0 &&
                                                             inputRole(input.name) == InputRole::pastKeyValue)
                arrays_.erase(array);
    }

    Tensor conform(const InputInfo& input, const Tensor& array) const {
        if (input.ranked) {
            if (array.rank() != static_cast<std::int64_t>(input.dims.size())) misfit(input, array, "");
            for (std::size_t i = 1; i < input.dims.size(); ++i)
                if (input.dims[i].size >= 0 && input.dims[i].size != array.shape()[i])
                    misfit(input, array, "");
        }
        const DType want = input.dtype, have = array.dtype();
        if (want == have || want == DType::undefined) return array;
        const bool toCount = isCount(want) && isCount(have);
        const bool toFloat = isFloatingPoint(want) &&
                             (isFloatingPoint(have) || inputRole(input.name) == InputRole::attentionMask);
        if (!toCount && !toFloat) {
            const bool pixels = isFloatingPoint(want) && isCount(have);
            misfit(input, array,
                   pixels ? "; convert it as the model was trained (scale, mean, deviation)" : "");
        }
        if (toCount && want != DType::boolean) {
            const auto [low, high] = integerRange(want);
            for (const std::int64_t value : toInt64(array))
                if (value < low || value > high)
                    misfit(input, array, fmt::format("; its value {} does not fit {}", value, name(want)));
        }
        return convert(array, want);
    }

    /// Ids of another vocabulary; the model would stop at the first.
    void checkIndices(const InputInfo& input, const Tensor& array) const {
        const auto rows = rows_.find(input.name);
        if (rows == rows_.end() || !isInteger(array.dtype())) return;
        for (const std::int64_t index : toInt64(array))
            if (index < -rows->second || index >= rows->second)
                throw DataError(fmt::format("{}: input '{}': holds {}, and the model's table has {} rows; is it of another "
                                            "vocabulary?",
                                            origin_, input.name, index, rows->second));
    }

    /// The fitted array whose rows are the tokens that `name` describes.
    const Tensor* tokens(std::string_view name) const {
        for (const std::string_view prefix : {"encoder_", "decoder_"}) {
            if (!name.starts_with(prefix)) continue;
            for (const std::string_view what : {"input_ids", "hidden_states", "inputs_embeds"})
                if (const auto found = fitted_.find(std::string(prefix).append(what)); found != fitted_.end())
                    return &found->second;
        }
        for (const char* what : {"input_ids", "inputs_embeds", "decoder_input_ids"})
            if (const auto found = fitted_.find(what); found != fitted_.end()) return &found->second;
        return nullptr;
    }

    /// Tokens already in the key/value cache: 0 unless the file brings one.
    std::int64_t pastLength() const {
        for (const InputInfo& input : inputs_) {
            const auto found = fitted_.find(input.name);
            if (inputRole(input.name) != InputRole::pastKeyValue || found == fitted_.end()) continue;
            for (std::size_t i = 1; i < input.dims.size(); ++i)
                if (input.dims[i].size < 0) return found->second.shape()[i];
        }
        return 0;
    }

    Tensor derive(const InputInfo& input) const {
        const InputRole role = inputRole(input.name);
        if (role == InputRole::pastKeyValue && input.dims.size() > 1) {
            Shape shape{samples_};
            bool dynamic = false;
            for (std::size_t i = 1; i < input.dims.size(); ++i) {
                shape.push_back(std::max<std::int64_t>(input.dims[i].size, 0));
                dynamic |= input.dims[i].size < 0;
            }
            if (dynamic) {
                log::debug("{}: input '{}' is made: an empty key/value cache", origin_, input.name);
                return Tensor(input.dtype, shape);
            }
        }
        const Tensor* like = tokens(input.name);
        if (like != nullptr && like->rank() >= 2 && input.dims.size() == 2) {
            const std::int64_t length = like->shape()[1], past = pastLength();
            if (role == InputRole::tokenType)
                return filled(
                    input, length, [](std::int64_t) { return 0; }, "0");
            if (role == InputRole::positions)
                return filled(
                    input, length, [past](std::int64_t t) { return past + t; }, "0, 1, 2 …");
            if (role == InputRole::attentionMask)
                return filled(
                    input, past + length, [](std::int64_t) { return 1; }, "1");
        }
        std::vector<std::string> has;
        for (const auto& [name, array] : arrays_)
            has.push_back(fmt::format("'{}' {}", name, describe(array)));
        throw DataError(fmt::format("{}: input '{}': the model wants {}, the file has only {}", origin_,
                                    input.name, input.describe(), fmt::join(has, ", ")));
    }

    template <class ValueAt>
    Tensor filled(const InputInfo& input, std::int64_t length, ValueAt valueAt, std::string_view what) const {
        log::info("{}: input '{}' is not in the file and is set to {}", origin_, input.name, what);
        std::vector<std::int64_t> values(static_cast<std::size_t>(samples_ * length));
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = valueAt(static_cast<std::int64_t>(i) % length);
        return conform(input, Tensor::of<std::int64_t>({samples_, length}, values));
    }

    /// Dimensions of one name have one size.
    void checkSymbols() const {
        std::map<std::string, std::pair<const InputInfo*, std::int64_t>> sizes;
        for (const InputInfo& input : inputs_)
            for (std::size_t i = 1; i < input.dims.size(); ++i) {
                const std::string& symbol = input.dims[i].symbol;
                if (symbol.empty()) continue;
                const std::int64_t size = fitted_.at(input.name).shape()[i];
                const auto [known, isNew] = sizes.emplace(symbol, std::pair{&input, size});
                if (!isNew && known->second.second != size)
                    throw DataError(fmt::format(
                        "{}: inputs '{}' and '{}': the model wants one size for dimension '{}', the file has "
                        "{} and {}",
                        origin_, known->second.first->name, input.name, symbol, known->second.second, size));
            }
    }

    /// Said aloud where labels seem to have another name: one file often serves models with more inputs and with fewer.
    void noteUnused() const {
        for (const auto& [name, array] : arrays_) {
            if (inputNamed(name) != nullptr) continue;
            const bool isLike = std::ranges::any_of(kLikeLabels, [&](std::string_view word) { return name.starts_with(word); });
            if (isLike && !isLabelled_)
                log::warning("{}: array '{}' is not used; labels are read from an array 'labels'", origin_, name);
            else
                log::debug("{}: array '{}' is no input of the model and is not used", origin_, name);
        }
    }

    const std::string& origin_;
    const std::int64_t samples_;
    const bool isLabelled_;
    const std::vector<InputInfo> inputs_;
    std::map<std::string, std::int64_t> rows_;  ///< of tables, by the input that indexes them
    Arrays arrays_;
    Arrays fitted_;
};

}  // namespace

Dataset fitToModel(Dataset dataset, const ir::Model& model) {
    Arrays fitted = Fitter(dataset, model).fit();
    return Dataset(std::move(fitted), dataset.labels(), dataset.origin());
}

}  // namespace tcompress::data
