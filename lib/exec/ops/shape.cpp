// Operators about the shape of a tensor: those that only rename axes hand on the same bytes.

#include <algorithm>
#include <numeric>

#include "kernels/transpose.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

Runner makeShape(const NodeInfo& info) {
    const std::int64_t start = info.attributes.integer("start", 0);
    const bool hasEnd = info.attributes.has("end");
    const std::int64_t end = info.attributes.integer("end", 0);
    return [=](OpContext& context) {
        const Shape& shape = context.input(0).shape();
        const auto rank = static_cast<std::int64_t>(shape.size());
        const auto clamp = [rank](std::int64_t axis) {
            return std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank);
        };
        const std::int64_t from = clamp(start);
        const std::int64_t to = std::max(from, hasEnd ? clamp(end) : rank);
        const auto result = context.output<std::int64_t>(0, {to - from});
        std::copy(shape.begin() + from, shape.begin() + to, result.begin());
    };
}

Runner makeSize(const NodeInfo&) {
    return [](OpContext& context) { context.output<std::int64_t>(0, {})[0] = context.input(0).size(); };
}

/// Resolves 0 (copy the dimension, unless allowZero) and one -1 (whatever is left).
Shape reshapeTarget(const Shape& from, const std::vector<std::int64_t>& asked, bool allowZero) {
    Shape target(asked.begin(), asked.end());
    std::int64_t known = 1;
    std::optional<std::size_t> open;
    for (std::size_t i = 0; i < target.size(); ++i) {
        if (target[i] == 0 && !allowZero) {
            if (i >= from.size()) throw ModelError(fmt::format("shape {} copies axis {} of {}", toString(target), i, toString(from)));
            target[i] = from[i];
        }
        if (target[i] == -1) {
            if (open) throw ModelError(fmt::format("shape {} has two open dimensions", toString(target)));
            open = i;
        } else if (target[i] < 0 || __builtin_mul_overflow(known, target[i], &known)) {
            throw ModelError(fmt::format("{} is no shape", toString(target)));
        }
    }
    const std::int64_t count = elementCount(from);
    if (open) target[*open] = known == 0 ? 0 : count / known;
    if (elementCount(target) != count) {
        throw ModelError(fmt::format("a tensor of shape {} cannot take shape {}", toString(from),
                                     toString(Shape(asked.begin(), asked.end()))));
    }
    return target;
}

Runner makeReshape(const NodeInfo& info) {
    const bool allowZero = info.attributes.integer("allowzero", 0) != 0;
    return [allowZero](OpContext& context) {
        const Tensor& x = context.input(0);
        context.setOutput(0, x.reshaped(reshapeTarget(x.shape(), integers(context.input(1)), allowZero)));
    };
}

Runner makeFlatten(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", 1);
    return [axis](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto at = static_cast<std::size_t>(axis == x.rank() ? axis : normalizeAxis(axis, x.rank()));
        context.setOutput(0, x.reshaped({product(x.shape(), 0, at), product(x.shape(), at, x.shape().size())}));
    };
}

/// Axes are an attribute before opset 13 and an input since.
std::optional<std::vector<std::int64_t>> axesOf(const OpContext& context,
                                                const std::optional<std::vector<std::int64_t>>& attribute) {
    if (const Tensor* axes = context.optionalInput(1)) return integers(*axes);
    return attribute;
}

Runner makeSqueeze(const NodeInfo& info) {
    const auto attribute = info.attributes.integers("axes");
    return [attribute](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axes = axesOf(context, attribute);
        std::vector<bool> drop(x.shape().size());
        if (axes) {
            for (std::int64_t axis : normalizeAxes(*axes, x.rank())) drop[static_cast<std::size_t>(axis)] = true;
        }
        Shape shape;
        for (std::size_t i = 0; i < drop.size(); ++i) {
            if (drop[i] && x.shape()[i] != 1) {
                throw ModelError(fmt::format("axis {} of shape {} is not 1 and cannot be squeezed", i, toString(x.shape())));
            }
            if (!(drop[i] || (!axes && x.shape()[i] == 1))) shape.push_back(x.shape()[i]);
        }
        context.setOutput(0, x.reshaped(std::move(shape)));
    };
}

Runner makeUnsqueeze(const NodeInfo& info) {
    const auto attribute = info.attributes.integers("axes");
    return [attribute](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axes = axesOf(context, attribute);
        if (!axes) throw ModelError("axes are required");
        const std::int64_t rank = x.rank() + static_cast<std::int64_t>(axes->size());
        std::vector<bool> isNew(static_cast<std::size_t>(rank));
        for (std::int64_t axis : normalizeAxes(*axes, rank)) isNew[static_cast<std::size_t>(axis)] = true;
        Shape shape;
        auto next = x.shape().begin();
        for (bool added : isNew) {
            if (!added && next == x.shape().end()) throw ModelError("the same axis is added twice");
            shape.push_back(added ? 1 : *next++);
        }
        context.setOutput(0, x.reshaped(std::move(shape)));
    };
}

Runner makeIdentity(const NodeInfo&) {
    return [](OpContext& context) { context.setOutput(0, context.datum(0)); };
}

/// Inference: the data pass, nothing is dropped.
Runner makeDropout(const NodeInfo& info) {
    const bool training = info.constant(2) && info.constant(2)->dtype() == DType::boolean &&
                          info.constant(2)->size() == 1 && info.constant(2)->data<bool>()[0];
    if (training) throw KernelError("training mode is not supported");
    return [](OpContext& context) {
        context.setOutput(0, context.input(0));
        if (context.wants(1)) {
            const auto mask = context.output<bool>(1, context.input(0).shape());
            std::fill(mask.begin(), mask.end(), true);
        }
    };
}

/// Moving axes of size 1 about does not move bytes.
bool keepsOrder(const Shape& shape, const std::vector<std::int64_t>& permutation) {
    std::int64_t last = -1;
    for (std::int64_t axis : permutation) {
        if (shape[static_cast<std::size_t>(axis)] == 1) continue;
        if (axis < last) return false;
        last = axis;
    }
    return true;
}

Runner makeTranspose(const NodeInfo& info) {
    const auto attribute = info.attributes.integers("perm");
    return [attribute](OpContext& context) {
        const Tensor& x = context.input(0);
        std::vector<std::int64_t> permutation(x.shape().size());
        if (attribute) {
            permutation = *attribute;
            if (permutation.size() != x.shape().size()) {
                throw ModelError(fmt::format("perm has {} axes, its input {}", permutation.size(), x.shape().size()));
            }
        } else {
            std::iota(permutation.rbegin(), permutation.rend(), 0);
        }
        Shape shape;
        std::vector<std::uint8_t> seen(permutation.size(), 0);
        permutation = normalizeAxes(std::move(permutation), x.rank());
        for (std::int64_t axis : permutation) seen[static_cast<std::size_t>(axis)] = 1;
        if (std::ranges::count(seen, 0) > 0) throw ModelError(fmt::format("perm {} is no permutation", toString(permutation)));
        for (std::int64_t axis : permutation) shape.push_back(x.shape()[static_cast<std::size_t>(axis)]);
        if (keepsOrder(x.shape(), permutation)) {
            context.setOutput(0, x.reshaped(std::move(shape)));
            return;
        }
        if (bitsPerElement(x.dtype()) < 8) {
            context.setOutput(0, tcompress::transpose(x, permutation));
            return;
        }
        std::byte* y = context.outputBytes(0, x.dtype(), std::move(shape));
        kernels::transpose(typedBytes(x), bitsPerElement(x.dtype()) / 8, x.shape(), permutation, y);
    };
}

Runner makeExpand(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::vector<std::int64_t> asked = integers(context.input(1));
        const Shape shape = kernels::broadcastShape(x.shape(), asked);
        if (shape == x.shape()) {
            context.setOutput(0, x);
            return;
        }
        const std::vector<Shape> operands{x.shape()};
        kernels::expand(kernels::broadcast(shape, operands), typedBytes(x), bitsPerElement(x.dtype()) / 8,
                        context.outputBytes(0, x.dtype(), shape));
    };
}

/// A tiled axis of size d, repeated r times, is the two axes [r, d] with stride 0 on the first.
Runner makeTile(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::vector<std::int64_t> repeats = integers(context.input(1));
        if (repeats.size() != x.shape().size()) {
            throw ModelError(fmt::format("{} repeats for shape {}", repeats.size(), toString(x.shape())));
        }
        Shape result;
        Shape loop;
        std::vector<std::int64_t> from;
        const std::vector<std::int64_t> strides = stridesOf(x.shape());
        for (std::size_t i = 0; i < repeats.size(); ++i) {
            result.push_back(elementCount({x.shape()[i], repeats[i]}));
            loop.insert(loop.end(), {repeats[i], x.shape()[i]});
            from.insert(from.end(), {0, strides[i]});
        }
        std::byte* y = context.outputBytes(0, x.dtype(), result);
        if (elementCount(result) == 0) return;
        kernels::copyStrided(typedBytes(x), bitsPerElement(x.dtype()) / 8, loop, from, stridesOf(loop), y);
    };
}

/// Both are a Reshape, a Transpose and a Reshape of [N, C, H, W].
void moveBlocks(OpContext& context, const Shape& split, const std::vector<std::int64_t>& permutation, Shape result) {
    const Tensor& x = context.input(0);
    if (elementCount(split) != x.size()) throw ModelError(fmt::format("an image of shape {} does not divide into blocks", toString(x.shape())));
    std::byte* y = context.outputBytes(0, x.dtype(), std::move(result));
    kernels::transpose(typedBytes(x), bitsPerElement(x.dtype()) / 8, split, permutation, y);
}

const Shape& imageShape(const OpContext& context) {
    const Shape& shape = context.input(0).shape();
    if (shape.size() != 4) throw ModelError(fmt::format("an image has four axes and not shape {}", toString(shape)));
    return shape;
}

std::int64_t blockSize(const NodeInfo& info) {
    const std::int64_t block = info.attributes.integer("blocksize", 1);
    if (block <= 0 || block > (std::int64_t{1} << 20)) throw ModelError(fmt::format("blocks of {}", block));
    return block;
}

Runner makeDepthToSpace(const NodeInfo& info) {
    const std::int64_t block = blockSize(info);
    const bool columnFirst = info.attributes.text("mode", "DCR") == "CRD";
    return [block, columnFirst](OpContext& context) {
        const Shape& s = imageShape(context);
        const std::int64_t depth = s.at(1) / (block * block);
        const Shape result{s[0], depth, s.at(2) * block, s.at(3) * block};
        if (columnFirst) {
            moveBlocks(context, {s[0], depth, block, block, s[2], s[3]}, {0, 1, 4, 2, 5, 3}, result);
        } else {
            moveBlocks(context, {s[0], block, block, depth, s[2], s[3]}, {0, 3, 4, 1, 5, 2}, result);
        }
    };
}

Runner makeSpaceToDepth(const NodeInfo& info) {
    const std::int64_t block = blockSize(info);
    const std::vector<std::int64_t> order = info.attributes.text("mode", "DCR") == "CRD" ? std::vector<std::int64_t>{0, 1, 3, 5, 2, 4}
                                                                                         : std::vector<std::int64_t>{0, 3, 5, 1, 2, 4};
    return [=](OpContext& context) {
        const Shape& s = imageShape(context);
        moveBlocks(context, {s.at(0), s.at(1), s.at(2) / block, block, s.at(3) / block, block}, order,
                   {s[0], s[1] * block * block, s[2] / block, s[3] / block});
    };
}

constexpr FloatSupport kAnyFloat = FloatSupport::all;

const OperatorRow kRows[] = {
    {"", "Shape", 1, makeShape, kStoredTypes, kAnyFloat},
    {"", "Size", 1, makeSize, kStoredTypes, kAnyFloat},
    {"", "Reshape", 5, makeReshape, kStoredTypes, kAnyFloat},
    {"", "Flatten", 1, makeFlatten, kStoredTypes, kAnyFloat},
    {"", "Squeeze", 1, makeSqueeze, kStoredTypes, kAnyFloat},
    {"", "Unsqueeze", 1, makeUnsqueeze, kStoredTypes, kAnyFloat},
    {"", "Identity", 1, makeIdentity, kStoredTypes, kAnyFloat},
    {"", "Dropout", 7, makeDropout, kFloatTypes | kFloat8Types, kAnyFloat},
    {"", "Transpose", 1, makeTranspose, kStoredTypes, kAnyFloat},
    {"", "Expand", 8, makeExpand, kLogicTypes, kAnyFloat},
    {"", "Tile", 6, makeTile, kLogicTypes, kAnyFloat},
    {"", "DepthToSpace", 1, makeDepthToSpace, kLogicTypes, kAnyFloat},
    {"", "SpaceToDepth", 1, makeSpaceToDepth, kLogicTypes, kAnyFloat},
};

}  // namespace

std::span<const OperatorRow> shapeOperators() { return kRows; }

}  // namespace tcompress::exec
