// Query, key and value projections of one input, each split into heads by a Reshape, become one product whose columns
// lie side by side; attention reads its heads there. Also when the model has one projection and a Split already.

#include <algorithm>
#include <array>
#include <cstring>

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

/// The last two entries of a target shape [batch, rows, heads, size], where they are constant.
struct HeadShape {
    std::int64_t heads = 0, size = 0;
};
std::optional<HeadShape> headShape(const Rewriter& rewriter, ValueId shape) {
    std::vector<std::int64_t> tail;
    if (const Tensor* constant = rewriter.constant(shape)) {
        tail = toInt64(*constant);
        if (tail.size() != 4) return std::nullopt;
    } else if (const PlanNode* parts = rewriter.producer(shape, "Concat")) {
        for (std::size_t i = parts->inputs.size(); i-- > 0 && tail.size() < 2;) {
            const Tensor* part = rewriter.constant(parts->input(i));
            if (!part) return std::nullopt;
            const std::vector<std::int64_t> entries = toInt64(*part);
            tail.insert(tail.begin(), entries.begin(), entries.end());
        }
    }
    if (tail.size() < 2) return std::nullopt;
    const HeadShape found{tail[tail.size() - 2], tail.back()};
    return found.heads > 0 && found.size > 0 ? std::optional(found) : std::nullopt;
}

/// One of the three paths from a projection to attention.
struct Path {
    PlanNode* linear = nullptr;
    PlanNode* split = nullptr;  // between them, or null
    HeadShape head;
    std::size_t part = 0;  // output of the split
};

std::optional<Path> pathTo(const Rewriter& rewriter, ValueId operand) {
    const PlanNode* reshape = rewriter.producer(operand, "Reshape");
    if (!reshape || !rewriter.vanishes(operand)) return std::nullopt;
    const auto head = headShape(rewriter, reshape->input(1));
    PlanNode* before = rewriter.producer(reshape->input(0));
    if (!head || !before || !rewriter.vanishes(reshape->input(0))) return std::nullopt;
    Path path;
    path.head = *head;
    if (before->is("Split")) {
        const std::int64_t axis = Attributes(*before->proto).integer("axis", 0);
        if (axis != -1 && axis != 2) return std::nullopt;
        path.split = before;
        path.part = static_cast<std::size_t>(std::find(before->outputs.begin(), before->outputs.end(), reshape->input(0)) - before->outputs.begin());
        return path;
    }
    if (!before->is(kFusedDomain, "Linear") && !before->is(kFusedDomain, "Int8Linear")) return std::nullopt;
    path.linear = before;
    return path;
}

/// Matrices [K, N] side by side.
Tensor joinColumns(const std::vector<const Tensor*>& parts) {
    std::int64_t columns = 0;
    for (const Tensor* part : parts) columns += part->shape()[1];
    const std::int64_t rows = parts.front()->shape()[0];
    Tensor joined(parts.front()->dtype(), {rows, columns});
    const auto width = static_cast<std::size_t>(bitsPerElement(joined.dtype())) / 8;
    std::byte* target = joined.mutableBytes().data();
    for (std::int64_t row = 0; row < rows; ++row) {
        for (const Tensor* part : parts) {
            const std::size_t bytes = static_cast<std::size_t>(part->shape()[1]) * width;
            std::memcpy(target, part->bytes().data() + static_cast<std::size_t>(row) * bytes, bytes);
            target += bytes;
        }
    }
    for (const Tensor* part : parts) part->releasePages();
    return joined;
}

/// One entry a column; a part with one value for all its columns is spread.
template <class T>
Tensor joinVectors(const std::vector<const Tensor*>& parts, const std::vector<std::int64_t>& columns) {
    std::vector<T> joined;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        for (std::int64_t c = 0; c < columns[i]; ++c) {
            if (!parts[i]) {
                joined.push_back(T{});
            } else {
                const auto values = parts[i]->data<T>();
                joined.push_back(values[values.size() == 1 ? 0 : static_cast<std::size_t>(c)]);
            }
        }
    }
    return Tensor::of<T>({static_cast<std::int64_t>(joined.size())}, joined);
}

/// Attributes that a projection may not have to be merged.
bool isPlain(const PlanNode& linear, std::size_t residual) {
    const Attributes attributes(*linear.proto);
    return linear.input(residual) == kNoValue && attributes.integer("activation", 0) == 0 && attributes.integer("transB", 0) == 0 &&
           attributes.real("alpha", 1) == 1.0F && !attributes.has("before_bias_type") && !attributes.has("y_type");
}

/// The merged layer's value, or kNoValue when the three do not go together.
ValueId mergedLinear(Rewriter& rewriter, PlanNode& attention, const std::array<Path, 3>& paths) {
    const PlanNode& first = *paths[0].linear;
    const bool int8 = first.opType() == "Int8Linear";
    const std::size_t biasAt = int8 ? 4 : 2;
    std::vector<const Tensor*> weights, biases, scales, zeroPoints;
    std::vector<std::int64_t> columns;
    for (const Path& path : paths) {
        const PlanNode& linear = *path.linear;
        const Tensor* w = rewriter.constant(linear.input(1));
        if (linear.opType() != first.opType() || linear.input(0) != first.input(0) || !isPlain(linear, biasAt + 1) ||
            w->dtype() != rewriter.constant(first.input(1))->dtype() || w->shape()[1] != path.head.heads * path.head.size) {
            return kNoValue;
        }
        weights.push_back(w);
        columns.push_back(w->shape()[1]);
        biases.push_back(rewriter.constant(linear.input(biasAt)));
        scales.push_back(int8 ? rewriter.constant(linear.input(2)) : nullptr);
        zeroPoints.push_back(int8 ? rewriter.constant(linear.input(3)) : nullptr);
    }
    const auto given = [](const std::vector<const Tensor*>& parts) { return std::any_of(parts.begin(), parts.end(), [](auto* p) { return p != nullptr; }); };
    // All joined before the first is added: adding moves the constants that the pointers look at.
    std::vector<std::pair<std::size_t, Tensor>> constants{{1, joinColumns(weights)}};
    if (given(biases)) constants.emplace_back(biasAt, joinVectors<float>(biases, columns));
    if (int8) constants.emplace_back(2, joinVectors<float>(scales, columns));
    if (given(zeroPoints)) {
        const bool isSigned = weights.front()->dtype() == DType::int8;
        constants.emplace_back(3, isSigned ? joinVectors<std::int8_t>(zeroPoints, columns) : joinVectors<std::uint8_t>(zeroPoints, columns));
    }
    std::vector<ValueId> inputs = first.inputs;
    inputs[biasAt] = kNoValue;
    for (auto& [at, constant] : constants) inputs[at] = rewriter.graph().addConstant(first.label() + "/joined", std::move(constant));
    const ValueId merged = rewriter.insertBefore(attention, kFusedDomain, first.opType(), std::move(inputs), DType::float32);
    PlanNode& node = *rewriter.producer(merged);
    for (const onnx::AttributeProto& attribute : first.proto->attribute()) *protoOf(node).add_attribute() = attribute;
    return merged;
}

/// The three parts of one Split in order.
ValueId splitSource(const std::array<Path, 3>& paths) {
    for (std::size_t i = 0; i < 3; ++i) {
        if (!paths[i].split || paths[i].split != paths[0].split || paths[i].part != i) return kNoValue;
    }
    return paths[0].split->outputs.size() == 3 ? paths[0].split->input(0) : kNoValue;
}

void merge(Rewriter& rewriter, PlanNode& attention) {
    const auto layouts = Attributes(*attention.proto).integers("layouts");
    if (!layouts || (*layouts)[0] != 1 || (*layouts)[1] != 1 || (*layouts)[2] != 1) return;
    std::array<Path, 3> paths;
    for (std::size_t i = 0; i < 3; ++i) {
        const auto path = pathTo(rewriter, attention.input(i));
        if (!path) return;
        paths[i] = *path;
    }
    const bool linears = paths[0].linear && paths[1].linear && paths[2].linear;
    const ValueId joined = linears ? mergedLinear(rewriter, attention, paths) : splitSource(paths);
    if (joined == kNoValue) return;
    PlanNode fused = rewriter.make(kFusedDomain, "PackedAttention", {joined, attention.input(3)}, attention.outputs, attention.label());
    setAttribute(protoOf(fused), "scale", Attributes(*attention.proto).real("scale", 1));
    setAttribute(protoOf(fused), "layout", (*layouts)[3]);
    std::vector<std::int64_t> heads, sizes;
    for (const Path& path : paths) {
        heads.push_back(path.head.heads);
        sizes.push_back(path.head.size);
    }
    setAttribute(protoOf(fused), "heads", heads);
    setAttribute(protoOf(fused), "sizes", sizes);
    rewriter.replace(attention, std::move(fused));
}

}  // namespace

void mergeProjections(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is(kFusedDomain, "Attention")) merge(rewriter, node);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
