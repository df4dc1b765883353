// From x backwards through what adds and multiplies constant vectors, as long as nothing else reads the values
// between: (v · γ + β) · f + o = v · (γ·f) + (β·f + o). A norm that exporters spell out ends in these two
// operators; a native one has them as operands.

#include "passes/support/channel_map.h"

#include <algorithm>
#include <optional>

#include "lib/support/check.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

/// A constant vector as a node reads it.
struct Operand {
    ir::Node* node = nullptr;
    std::size_t index = 0;

    ir::Value* value() const { return node->input(index); }
};

/// Where a map goes: `scale` takes factors, every one of `biases` factors, the first of them offsets too.
struct Places {
    std::optional<Operand> scale;
    std::vector<Operand> biases;
    /// A norm without a bias, which may be given one.
    std::optional<Operand> missingBias;
};

/// Operators that end in · scale [+ bias].
struct NormOperands {
    const char* domain;
    const char* opType;
    std::size_t scale;
    std::size_t bias;  ///< 0: the operator has none
};
constexpr NormOperands kNorms[] = {
    {"", "LayerNormalization", 1, 2},
    {"", "RMSNormalization", 1, 0},
    {"", "SimplifiedLayerNormalization", 1, 0},
    {"com.microsoft", "SimplifiedLayerNormalization", 1, 0},
    {"com.microsoft", "SkipLayerNormalization", 2, 3},
    {"com.microsoft", "SkipSimplifiedLayerNormalization", 2, 0},
};

bool isVector(const ir::Value* value, std::size_t channels) {
    const Tensor* constant = value == nullptr ? nullptr : value->constant();
    return constant != nullptr && constant->dtype() == DType::float32 && constant->rank() >= 1 &&
           constant->shape().back() == static_cast<std::int64_t>(channels) &&
           constant->size() == static_cast<std::int64_t>(channels);
}

/// Whether nothing else reads its elements.
bool isReadBy(const ir::Value& value, std::span<const ir::Node* const> readers) {
    return !value.uses().empty() && std::all_of(value.uses().begin(), value.uses().end(), [&](const ir::Use& use) {
        return use.kind == ir::UseKind::input &&
               (use.node->is("Shape") || std::find(readers.begin(), readers.end(), use.node) != readers.end());
    });
}

/// Rows in another arrangement.
bool keepsRows(const ir::Node& node, std::size_t channels) {
    const auto endsInChannels = [&](const ir::Value* value) {
        const auto shape = value->shape();
        return shape && !shape->empty() && shape->back() == static_cast<std::int64_t>(channels);
    };
    return node.is("Reshape") && endsInChannels(node.input(0)) && endsInChannels(node.output());
}

/// The other operand of an Add or Mul of a constant vector.
struct WithVector {
    ir::Value* value = nullptr;
    Operand vector;
};
std::optional<WithVector> withVector(ir::Node& node, std::size_t channels) {
    for (const std::size_t index : {std::size_t{1}, std::size_t{0}})
        if (isVector(node.input(index), channels) && node.input(1 - index)->constant() == nullptr)
            return WithVector{node.input(1 - index), {&node, index}};
    return std::nullopt;
}

Places placesOf(const ir::Value& x, std::span<const ir::Node* const> readers, std::size_t channels) {
    Places places;
    const ir::Value* at = &x;
    std::vector<const ir::Node*> next(readers.begin(), readers.end());
    while (isReadBy(*at, next) && at->producer() != nullptr) {
        ir::Node& node = *at->producer();
        const auto norm = std::find_if(std::begin(kNorms), std::end(kNorms), [&](const NormOperands& row) {
            return node.is(row.domain, row.opType) && node.output(0) == at;
        });
        if (norm != std::end(kNorms)) {
            const bool lastAxis = !node.is("LayerNormalization") || node.attributeInt("axis", -1) == -1 ||
                                  (at->shape() && node.attributeInt("axis", -1) ==
                                                      static_cast<std::int64_t>(at->shape()->size()) - 1);
            const bool hasBias = norm->bias != 0 && node.input(norm->bias) != nullptr;
            if (!lastAxis || !isVector(node.input(norm->scale), channels) ||
                (hasBias && !isVector(node.input(norm->bias), channels)))
                return {};
            places.scale = Operand{&node, norm->scale};
            if (hasBias) places.biases.push_back({&node, norm->bias});
            if (norm->bias != 0 && !hasBias) places.missingBias = Operand{&node, norm->bias};
            return places;
        }
        next = {&node};
        if (keepsRows(node, channels)) {
            at = node.input(0);
            continue;
        }
        const bool adds = node.is("Add");
        if (!adds && !node.is("Mul")) return {};
        const auto found = withVector(node, channels);
        if (!found) return {};
        if (!adds) {
            places.scale = found->vector;
            return places;
        }
        places.biases.push_back(found->vector);
        at = found->value;
    }
    return {};
}

void setVector(ir::Edit& edit, const Operand& operand, const std::vector<float>& values) {
    ir::Value* old = operand.value();
    const Tensor tensor =
        old == nullptr
            ? Tensor::of<float>({static_cast<std::int64_t>(values.size())}, std::span<const float>(values))
            : Tensor::of<float>(old->constant()->shape(), std::span<const float>(values));
    const bool own = old != nullptr && old->uses().size() == 1 && old->uses().front().kind == ir::UseKind::input;
    if (own)
        edit.setConstant(old, tensor);
    else
        edit.replaceInput(operand.node, operand.index,
                          edit.addInitializer((old == nullptr ? operand.node->label() + "_bias" : old->name()), tensor));
}

std::vector<float> times(const Operand& operand, const std::vector<float>& factors) {
    const auto values = operand.value()->constant()->data<float>();
    std::vector<float> result(values.begin(), values.end());
    if (!factors.empty())
        for (std::size_t i = 0; i < result.size(); ++i) result[i] *= factors[i];
    return result;
}

ir::Value* vector(ir::Edit& edit, const std::string& name, const std::vector<float>& values) {
    return edit.addInitializer(
        name, Tensor::of<float>({static_cast<std::int64_t>(values.size())}, std::span<const float>(values)));
}

}  // namespace

ChannelMapPlaces placesForMap(const ir::Value& x, std::span<const ir::Node* const> readers,
                              std::size_t channels) {
    const Places places = placesOf(x, readers, channels);
    return {places.scale.has_value(), places.scale && (!places.biases.empty() || places.missingBias)};
}

ir::Value* mapChannels(ir::Edit& edit, ir::Value* x, std::span<const ir::Node* const> readers,
                       const ChannelMap& map) {
    if (map.isIdentity()) return x;
    const std::size_t channels = std::max(map.factors.size(), map.offsets.size());
    TCOMPRESS_CHECK(map.factors.empty() || map.offsets.empty() || map.factors.size() == map.offsets.size(),
                    "factors and offsets of different numbers of channels");
    const Places places = placesOf(*x, readers, channels);
    std::vector<float> offsets = map.offsets;
    ir::Value* result = x;
    if (places.scale) {
        if (!map.factors.empty()) setVector(edit, *places.scale, times(*places.scale, map.factors));
        for (std::size_t i = 0; i < places.biases.size(); ++i) {
            std::vector<float> bias = times(places.biases[i], map.factors);
            if (i == 0)
                for (std::size_t c = 0; c < offsets.size(); ++c) bias[c] += offsets[c];
            setVector(edit, places.biases[i], bias);
        }
        if (places.biases.empty() && places.missingBias && !offsets.empty())
            setVector(edit, *places.missingBias, offsets);
        if (!places.biases.empty() || places.missingBias) offsets.clear();
    } else if (!map.factors.empty()) {
        result = emit(edit, "Mul", {x, vector(edit, x->name() + "_factors", map.factors)});
    }
    if (!offsets.empty()) result = emit(edit, "Add", {result, vector(edit, x->name() + "_offsets", offsets)});
    return result;
}

}  // namespace tcompress::passes
