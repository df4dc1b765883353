#include "lib/analysis/concretise.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

namespace {

enum class DimensionKind { batch, sequence, past, encoder, total, height, width };

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

// What a dynamic dimension means: from its name where exporters give it one, from its place otherwise.
DimensionKind kindOf(const std::string& parameter, const onnx::TensorShapeProto& shape, int axis,
                     bool floats) {
    const std::string name = lower(parameter);
    const bool past = contains(name, "past");
    if (contains(name, "total") || (past && contains(name, "+"))) return DimensionKind::total;
    if (past) return DimensionKind::past;
    if (contains(name, "encoder")) return DimensionKind::encoder;
    if (contains(name, "seq")) return DimensionKind::sequence;
    if (axis == 0 || contains(name, "batch")) return DimensionKind::batch;
    if (shape.dim_size() == 4 && floats && axis >= 2) {
        return axis == 2 ? DimensionKind::height : DimensionKind::width;
    }
    return DimensionKind::sequence;
}

std::int64_t probeSize(DimensionKind kind) {
    switch (kind) {
        case DimensionKind::batch:
            return 2;
        case DimensionKind::sequence:
            return 11;
        case DimensionKind::past:
            return 3;
        case DimensionKind::encoder:
            return 13;
        case DimensionKind::total:
            return 14;
        case DimensionKind::height:
            return 48;
        case DimensionKind::width:
            return 320;
    }
    return 11;
}

std::string dimensionKey(const ir::Value& input, int axis) {
    return fmt::format("{}:{}", input.name(), axis);
}

// An encoder's own input may be called encoder_sequence too; "decoder_sequence" must not count as an encoder.
DimensionKind dimensionKind(const ir::Value& input, const onnx::TensorShapeProto& shape, int axis) {
    std::string name = shape.dim(axis).dim_param();
    for (std::size_t at = name.find("decoder"); at != std::string::npos; at = name.find("decoder"))
        name.erase(at, 7);
    return kindOf(name, shape, axis, isFloatingPoint(input.dtype()));
}

const onnx::TensorShapeProto* declaredShape(const ir::Value& value) {
    const onnx::TypeProto* type = value.type();
    if (type == nullptr || !type->has_tensor_type() || !type->tensor_type().has_shape()) return nullptr;
    return &type->tensor_type().shape();
}

const ShapeRules& shapeRules() {
    static const ShapeRules rules = [] {
        ShapeRules all;
        addElementwiseShapeRules(all);
        addLayoutShapeRules(all);
        addIndexingShapeRules(all);
        addLinearShapeRules(all);
        addNormShapeRules(all);
        addReductionShapeRules(all);
        addFusedShapeRules(all);
        return all;
    }();
    return rules;
}

}  // namespace

class Concretiser {
  public:
    using ShapeOf = std::function<std::optional<Shape>(const ir::Value&)>;

    /// `imposed` (may be empty) replaces what the rules say about shapes.
    Concretiser(const ir::Model& model, const ProbeSizes& sizes, const ShapeOf& imposed)
        : model_(model), sizes_(sizes), imposed_(imposed) {}

    ConcreteShapes run() {
        for (const ir::Value* input : model_.graph().inputs()) addInput(*input);
        for (const ir::Value* initializer : model_.graph().initializers()) addConstant(*initializer);
        for (const auto& node : model_.graph().nodes()) addNode(*node);
        return std::move(out_);
    }

  private:
    void addInput(const ir::Value& input) {
        if (imposed_) {
            if (auto shape = imposed_(input)) out_.shapes_[&input] = *shape;
            return;
        }
        const onnx::TensorShapeProto* declared = declaredShape(input);
        if (declared == nullptr) return;
        Shape shape;
        for (int axis = 0; axis < declared->dim_size(); ++axis) {
            shape.push_back(inputSize(input, *declared, axis));
            if (declared->dim(axis).has_dim_param())
                namedSizes_[declared->dim(axis).dim_param()] = shape.back();
        }
        if (!isPossible(shape)) return;
        out_.shapes_[&input] = shape;
        out_.inputShapes_[input.name()] = shape;
    }

    /// What is declared or was inferred for a value, with the names of input dimensions filled in.
    std::optional<Shape> declaredSizes(const ir::Value& value) const {
        const onnx::TensorShapeProto* declared = declaredShape(value);
        if (declared == nullptr) return {};
        Shape shape;
        for (const auto& dimension : declared->dim()) {
            const auto named = namedSizes_.find(dimension.dim_param());
            if (dimension.has_dim_value()) {
                shape.push_back(dimension.dim_value());
            } else if (dimension.has_dim_param() && named != namedSizes_.end()) {
                shape.push_back(named->second);
            } else {
                return {};
            }
        }
        return isPossible(shape) ? std::optional(shape) : std::nullopt;
    }

    static bool isPossible(const Shape& shape) {
        try {
            elementCount(shape);
            return true;
        } catch (const ModelError&) {
            return false;
        }
    }

    std::int64_t inputSize(const ir::Value& input, const onnx::TensorShapeProto& shape, int axis) const {
        const auto& dimension = shape.dim(axis);
        // Some exporters write -1 for what is not known.
        if (dimension.has_dim_value() && dimension.dim_value() >= 0) return dimension.dim_value();
        if (const auto found = sizes_.find(dimensionKey(input, axis)); found != sizes_.end())
            return found->second;
        if (const auto found = sizes_.find(dimension.dim_param()); found != sizes_.end())
            return found->second;
        return probeSize(dimensionKind(input, shape, axis));
    }

    void addConstant(const ir::Value& value) {
        const Tensor* data = value.constant();
        if (data == nullptr) return;
        out_.shapes_[&value] = data->shape();
        if (data->size() <= kSmallValueElements) out_.values_[&value] = *data;
        impose(value);
    }

    void addNode(const ir::Node& node) {
        const auto rule = shapeRules().find(qualifiedName(node));
        if (node.is("Constant") && node.output() != nullptr && node.output()->constant() != nullptr) {
            addConstant(*node.output());
        } else if (rule != shapeRules().end()) {
            apply(node, rule->second);
        }
        for (const ir::Value* output : node.outputs()) {
            if (output == nullptr) continue;
            if (out_.shapes_.count(output) == 0) {
                if (auto shape = declaredSizes(*output)) out_.shapes_[output] = *shape;
            }
            impose(*output);
        }
    }

    void apply(const ir::Node& node, const ShapeRule& rule) {
        try {
            NodeShapes shapes(model_, node, out_, imposedShape(node));
            rule(shapes);
        } catch (const UnknownShape&) {
            // Left open, or closed by the declared shape.
        } catch (const Error&) {
            // A value of a type that has no integer or float reading, or sizes that no tensor has.
        } catch (const std::out_of_range&) {
            // An operand or a shape with fewer numbers than the operator takes.
        }
    }

    std::optional<Shape> imposedShape(const ir::Node& node) const {
        if (!imposed_ || node.output() == nullptr) return {};
        return imposed_(*node.output());
    }

    void impose(const ir::Value& value) {
        if (!imposed_) return;
        const std::optional<Shape> shape = imposed_(value);
        if (!shape) return;
        out_.shapes_[&value] = *shape;
        if (const auto found = out_.values_.find(&value);
            found != out_.values_.end() && found->second.shape() != *shape) {
            out_.values_.erase(found);
        }
    }

    const ir::Model& model_;
    const ProbeSizes& sizes_;
    const ShapeOf& imposed_;
    std::map<std::string, std::int64_t> namedSizes_;
    ConcreteShapes out_;
};

std::optional<Shape> ConcreteShapes::shape(const ir::Value& value) const {
    const auto found = shapes_.find(&value);
    if (found == shapes_.end()) return {};
    return found->second;
}

std::optional<Tensor> ConcreteShapes::value(const ir::Value& value) const {
    const auto found = values_.find(&value);
    if (found == values_.end()) return {};
    return found->second;
}

ConcreteShapes concretise(const ir::Model& model, const ProbeSizes& sizes) {
    return Concretiser(model, sizes, {}).run();
}

ConcreteShapes evaluateValues(const ir::Model& model,
                              const std::function<std::optional<Shape>(const ir::Value&)>& shapeOf) {
    return Concretiser(model, {}, shapeOf).run();
}

namespace {

template <class SizeOf>
ProbeSizes sizesByKind(const ir::Model& model, SizeOf&& sizeOf) {
    ProbeSizes sizes;
    for (const ir::Value* input : model.graph().inputs()) {
        const onnx::TensorShapeProto* shape = declaredShape(*input);
        if (shape == nullptr) continue;
        for (int axis = 0; axis < shape->dim_size(); ++axis) {
            if (shape->dim(axis).has_dim_value()) continue;
            sizes[dimensionKey(*input, axis)] = sizeOf(dimensionKind(*input, *shape, axis));
        }
    }
    return sizes;
}

std::size_t knownShapes(const ir::Model& model, const ConcreteShapes& shapes) {
    const std::vector<ir::Value*> values = model.graph().values();
    return static_cast<std::size_t>(std::count_if(
        values.begin(), values.end(), [&](const ir::Value* v) { return shapes.shape(*v).has_value(); }));
}

bool hasSequence(const ir::Model& model) {
    bool found = false;
    sizesByKind(model, [&](DimensionKind kind) -> std::int64_t {
        found = found || kind == DimensionKind::sequence || kind == DimensionKind::encoder || kind == DimensionKind::total;
        return 1;
    });
    return found;
}

}  // namespace

ProbeSizes referenceSizes(const ir::Model& model, std::int64_t sequenceLength) {
    return sizesByKind(model, [&](DimensionKind kind) -> std::int64_t {
        switch (kind) {
            case DimensionKind::batch:
                return 1;
            case DimensionKind::past:
                return 0;
            case DimensionKind::height:
            case DimensionKind::width:
                return probeSize(kind);
            case DimensionKind::sequence:
            case DimensionKind::encoder:
            case DimensionKind::total:
                return sequenceLength;
        }
        return sequenceLength;
    });
}

ProbeSizes alternativeSizes(const ir::Model& model) {
    return sizesByKind(model, [](DimensionKind kind) -> std::int64_t {
        switch (kind) {
            case DimensionKind::batch:
                return 3;
            case DimensionKind::sequence:
                return 7;
            case DimensionKind::past:
                return 5;
            case DimensionKind::encoder:
                return 9;
            case DimensionKind::total:
                return 12;
            case DimensionKind::height:
                return 48;
            case DimensionKind::width:
                return 256;
        }
        return 7;
    });
}

ReferenceShapes referenceShapes(const ir::Model& model, std::int64_t sequenceLength) {
    const std::size_t wanted = knownShapes(model, concretise(model));
    ReferenceShapes reference{concretise(model, referenceSizes(model, sequenceLength)), sequenceLength};
    while (reference.sequenceLength > 1 && knownShapes(model, reference.shapes) < wanted) {
        reference.sequenceLength /= 2;
        reference.shapes = concretise(model, referenceSizes(model, reference.sequenceLength));
    }
    if (!hasSequence(model)) reference.sequenceLength = 0;
    return reference;
}

// --- NodeShapes ---

std::string qualifiedName(const ir::Node& node) {
    return node.domain().empty() ? node.opType() : node.domain() + "." + node.opType();
}

Shape NodeShapes::shape(std::size_t input) const {
    const ir::Value* value = node_.input(input);
    if (value == nullptr) throw UnknownShape(fmt::format("input {} is left out", input));
    const auto found = shapes_.shapes_.find(value);
    if (found == shapes_.shapes_.end())
        throw UnknownShape(fmt::format("shape of '{}' is not known", value->name()));
    return found->second;
}

bool NodeShapes::hasValue(std::size_t input) const {
    return node_.input(input) != nullptr && shapes_.values_.count(node_.input(input)) != 0;
}

Tensor NodeShapes::value(std::size_t input) const {
    if (!hasValue(input)) throw UnknownShape(fmt::format("value of input {} is not known", input));
    return shapes_.values_.at(node_.input(input));
}

std::optional<std::vector<std::int64_t>> NodeShapes::operand(std::size_t input, const char* attribute) const {
    if (auto fromAttribute = node_.attributeInts(attribute)) return fromAttribute;
    if (has(input)) return ints(input);
    return {};
}

DType NodeShapes::dtype(std::size_t input) const {
    if (hasValue(input)) return value(input).dtype();
    const ir::Value* value = node_.input(input);
    return value == nullptr ? DType::undefined : value->dtype();
}

std::size_t NodeShapes::axis(std::int64_t axis, std::size_t rank) const {
    const auto size = static_cast<std::int64_t>(rank);
    if (axis < -size || axis >= size) throw UnknownShape(fmt::format("axis {} of rank {}", axis, rank));
    return static_cast<std::size_t>(axis < 0 ? axis + size : axis);
}

void NodeShapes::set(std::size_t output, Shape shape) {
    elementCount(shape);
    if (const ir::Value* value = node_.output(output)) shapes_.shapes_[value] = std::move(shape);
}

void NodeShapes::set(std::size_t output, Tensor value) {
    const ir::Value* target = node_.output(output);
    if (target == nullptr) return;
    shapes_.shapes_[target] = value.shape();
    if (value.size() <= kSmallValueElements) shapes_.values_[target] = std::move(value);
}

}  // namespace tcompress::analysis
