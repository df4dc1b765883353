// Operators that move elements: reshapes, permutations, concatenation, cutting, repetition, and the makers of
// shapes.

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

Shape reshaped(const Shape& input, std::vector<std::int64_t> wanted, bool allowZero) {
    std::int64_t known = 1;
    std::ptrdiff_t inferred = -1;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (wanted[i] == 0 && !allowZero) {
            if (i >= input.size()) throw UnknownShape("Reshape copies a dimension that is not there");
            wanted[i] = input[i];
        }
        if (wanted[i] == -1) {
            if (inferred >= 0) throw UnknownShape("two inferred dimensions");
            inferred = static_cast<std::ptrdiff_t>(i);
        } else if (wanted[i] < 0 || __builtin_mul_overflow(known, wanted[i], &known)) {
            throw UnknownShape(fmt::format("{} is no shape", toString(wanted)));
        }
    }
    const std::int64_t total = elementCount(input);
    if (inferred >= 0) {
        if (known == 0 ? total != 0 : total % known != 0) {
            throw UnknownShape(fmt::format("{} elements do not fill a multiple of {}", total, known));
        }
        wanted[static_cast<std::size_t>(inferred)] = known == 0 ? 0 : total / known;
    } else if (known != total) {
        throw UnknownShape(fmt::format("{} does not hold {} elements", toString(wanted), total));
    }
    return wanted;
}

namespace {

void setReshaped(NodeShapes& s, const Shape& shape) {
    if (elementCount(shape) != elementCount(s.shape(0)))
        throw UnknownShape(fmt::format("{} does not hold the elements of {}", toString(shape), toString(s.shape(0))));
    s.set(0, shape);
    if (s.hasValue(0)) s.set(0, s.value(0).reshaped(shape));
}

void reshape(NodeShapes& s) {
    if (s.imposedShape()) {
        setReshaped(s, reshaped(s.shape(0), *s.imposedShape(), true));
        return;
    }
    setReshaped(s, reshaped(s.shape(0), s.ints(1), s.node().attributeInt("allowzero", 0) != 0));
}

void flatten(NodeShapes& s) {
    const Shape in = s.shape(0);
    const std::int64_t requested = s.node().attributeInt("axis", 1);
    const auto axis = static_cast<std::ptrdiff_t>(
        requested < 0 ? requested + static_cast<std::int64_t>(in.size()) : requested);
    if (axis < 0 || axis > static_cast<std::ptrdiff_t>(in.size())) throw UnknownShape("axis out of range");
    setReshaped(s, {elementCount(Shape(in.begin(), in.begin() + axis)),
                    elementCount(Shape(in.begin() + axis, in.end()))});
}

void squeeze(NodeShapes& s) {
    const Shape in = s.shape(0);
    const auto axes = s.operand(1, "axes");
    std::vector<bool> drop(in.size(), false);
    for (std::size_t i = 0; !axes && i < in.size(); ++i) drop[i] = in[i] == 1;
    for (std::int64_t axis : axes.value_or(std::vector<std::int64_t>{})) drop[s.axis(axis, in.size())] = true;
    Shape out;
    for (std::size_t i = 0; i < in.size(); ++i) {
        if (!drop[i]) out.push_back(in[i]);
    }
    setReshaped(s, out);
}

void unsqueeze(NodeShapes& s) {
    const Shape in = s.shape(0);
    const auto axes = s.operand(1, "axes");
    if (!axes) throw UnknownShape("axes are not known");
    const std::size_t rank = in.size() + axes->size();
    std::vector<bool> added(rank, false);
    for (std::int64_t axis : *axes) added[s.axis(axis, rank)] = true;
    Shape out;
    std::size_t next = 0;
    for (std::size_t i = 0; i < rank; ++i) out.push_back(added[i] || next >= in.size() ? 1 : in[next++]);
    setReshaped(s, out);
}

void transpose(NodeShapes& s) {
    const Shape in = s.shape(0);
    std::vector<std::int64_t> order(in.size());
    std::iota(order.rbegin(), order.rend(), 0);
    if (auto perm = s.node().attributeInts("perm")) order = *perm;
    if (order.size() != in.size()) throw UnknownShape("perm has another rank");
    const Shape steps = strides(in);
    Shape out, outSteps;
    std::vector<bool> taken(in.size(), false);
    for (std::int64_t k : order) {
        const std::size_t axis = s.axis(k, in.size());
        if (taken[axis]) throw UnknownShape("perm names an axis twice");
        taken[axis] = true;
        out.push_back(in[axis]);
        outSteps.push_back(steps[axis]);
    }
    s.set(0, out);
    if (s.hasValue(0)) s.set(0, pick(s.value(0), out, positions(out, outSteps)));
}

void concat(NodeShapes& s) {
    Shape out = s.shape(0);
    const std::size_t axis = s.axis(s.node().attributeInt("axis", 0), out.size());
    bool known = s.hasValue(0);
    for (std::size_t i = 1; i < s.node().inputs().size(); ++i) {
        if (s.shape(i).size() != out.size()) throw UnknownShape("pieces of different ranks");
        out[axis] = sum(out[axis], s.shape(i)[axis]);
        known = known && s.hasValue(i);
    }
    s.set(0, out);
    if (!known || out.size() != 1 || elementCount(out) > kSmallValueElements) return;
    const DType type = s.value(0).dtype();
    if (isFloatingPoint(type)) {
        std::vector<double> all;
        for (std::size_t i = 0; i < s.node().inputs().size(); ++i) {
            const std::vector<double> part = toDoubles(s.value(i));
            all.insert(all.end(), part.begin(), part.end());
        }
        s.set(0, fromDoubles(type, out, all));
    } else {
        std::vector<std::int64_t> all;
        for (std::size_t i = 0; i < s.node().inputs().size(); ++i) {
            const std::vector<std::int64_t> part = s.ints(i);
            all.insert(all.end(), part.begin(), part.end());
        }
        s.set(0, fromInts(type, out, all));
    }
}

void setSlice(NodeShapes& s, std::size_t output, const Shape& out, const Shape& steps, std::int64_t offset) {
    s.set(output, out);
    if (s.hasValue(0)) s.set(output, pick(s.value(0), out, positions(out, steps, offset)));
}

void split(NodeShapes& s) {
    const Shape in = s.shape(0);
    const std::size_t axis = s.axis(s.node().attributeInt("axis", 0), in.size());
    const auto count = static_cast<std::int64_t>(s.node().outputs().size());
    auto sizes = s.operand(1, "split");
    if (!sizes) {
        // Equal pieces; num_outputs (opset 18) allows a smaller last one.
        const std::int64_t piece = in[axis] / count + (in[axis] % count != 0 ? 1 : 0);
        sizes.emplace(static_cast<std::size_t>(count), piece);
        sizes->back() = in[axis] - piece * (count - 1);
    }
    if (static_cast<std::int64_t>(sizes->size()) != count) throw UnknownShape("one size an output");
    const Shape steps = strides(in);
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < sizes->size(); ++i) {
        if ((*sizes)[i] < 0 || (*sizes)[i] > in[axis] - offset)
            throw UnknownShape(fmt::format("{} do not share {}", toString(*sizes), in[axis]));
        Shape out = in;
        out[axis] = (*sizes)[i];
        setSlice(s, i, out, steps, offset * steps[axis]);
        offset += (*sizes)[i];
    }
}

void slice(NodeShapes& s) {
    const Shape in = s.shape(0);
    const auto starts = s.operand(1, "starts");
    const auto ends = s.operand(2, "ends");
    auto axes = s.operand(3, "axes");
    if (!starts || !ends) throw UnknownShape("bounds are not known");
    if (!axes) {
        axes.emplace(starts->size());
        std::iota(axes->begin(), axes->end(), 0);
    }
    std::vector<std::int64_t> steps(starts->size(), 1);
    if (s.has(4)) steps = s.ints(4);
    if (ends->size() != starts->size() || axes->size() != starts->size() || steps.size() != starts->size())
        throw UnknownShape("a start, an end and a step an axis");
    Shape out = in;
    Shape sourceSteps = strides(in);
    std::vector<bool> taken(in.size(), false);
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < starts->size(); ++i) {
        const std::size_t axis = s.axis((*axes)[i], in.size());
        if (taken[axis]) throw UnknownShape("an axis is cut twice");
        taken[axis] = true;
        const std::int64_t size = in[axis];
        const std::int64_t step = steps[i];
        if (step == 0 || step == std::numeric_limits<std::int64_t>::min())
            throw UnknownShape(fmt::format("step {}", step));
        auto bounded = [&](std::int64_t at, std::int64_t low, std::int64_t high) {
            return std::max(low, std::min(at < 0 ? at + size : at, high));
        };
        const std::int64_t begin =
            step > 0 ? bounded((*starts)[i], 0, size) : bounded((*starts)[i], 0, size - 1);
        // A huge negative end must not wrap around: adding the size keeps it negative, which is clamped to
        // "before 0".
        const std::int64_t end = step > 0 ? bounded((*ends)[i], 0, size) : bounded((*ends)[i], -1, size - 1);
        const std::int64_t span = step > 0 ? end - begin : begin - end;
        const std::int64_t stride = step > 0 ? step : -step;
        out[axis] = span <= 0 ? 0 : (span - 1) / stride + 1;
        if (out[axis] > 0) offset += begin * sourceSteps[axis];
        if (out[axis] > 1) sourceSteps[axis] *= step;
    }
    setSlice(s, 0, out, sourceSteps, elementCount(out) == 0 ? 0 : offset);
}

void expand(NodeShapes& s) {
    const Shape out = s.imposedShape() ? *s.imposedShape() : broadcast(s.shape(0), s.ints(1));
    s.set(0, out);
    if (s.hasValue(0) && elementCount(out) <= kSmallValueElements) s.set(0, broadcastTo(s.value(0), out));
}

void tile(NodeShapes& s) {
    Shape out = s.shape(0);
    const std::vector<std::int64_t> repeats = s.ints(1);
    if (repeats.size() != out.size()) throw UnknownShape("one repeat an axis");
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = product(out[i], repeats[i]);
    s.set(0, out);
}

void pad(NodeShapes& s) {
    Shape out = s.shape(0);
    const auto pads = s.operand(1, "pads");
    if (!pads) throw UnknownShape("pads are not known");
    std::vector<std::int64_t> axes(out.size());
    std::iota(axes.begin(), axes.end(), 0);
    if (s.has(3)) axes = s.ints(3);
    if (pads->size() != 2 * axes.size()) throw UnknownShape("two pads an axis");
    for (std::size_t i = 0; i < axes.size(); ++i) {
        std::int64_t& size = out[s.axis(axes[i], out.size())];
        size = sum(size, sum((*pads)[i], (*pads)[i + axes.size()]));
    }
    s.set(0, out);
}

void shapeOf(NodeShapes& s) {
    const Shape in = s.shape(0);
    const auto rank = static_cast<std::int64_t>(in.size());
    auto bounded = [&](std::int64_t at) {
        return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank);
    };
    const std::int64_t begin = bounded(s.node().attributeInt("start", 0));
    const std::int64_t end = std::max(begin, bounded(s.node().attributeInt("end", rank)));
    const Shape part(in.begin() + begin, in.begin() + end);
    s.set(0, fromInts(DType::int64, {end - begin}, part));
}

void constantOfShape(NodeShapes& s) {
    const Shape out = s.imposedShape() ? *s.imposedShape() : s.ints(0);
    s.set(0, out);
    if (elementCount(out) > kSmallValueElements) return;
    const ir::Value* result = s.node().output();
    const onnx::AttributeProto* attribute = s.node().attribute("value");
    if (attribute == nullptr) {
        s.set(0, fromDoubles(DType::float32, out,
                             std::vector<double>(static_cast<std::size_t>(elementCount(out)), 0)));
        return;
    }
    const onnx::TensorProto& value = attribute->t();
    const auto type = static_cast<DType>(value.data_type());
    const auto count = static_cast<std::size_t>(elementCount(out));
    if (result == nullptr) return;
    if (type == DType::int64) {
        std::int64_t fill = 0;
        if (value.int64_data_size() == 1) fill = value.int64_data(0);
        if (value.raw_data().size() == sizeof fill)
            std::copy_n(value.raw_data().data(), sizeof fill, reinterpret_cast<char*>(&fill));
        s.set(0, fromInts(type, out, std::vector<std::int64_t>(count, fill)));
    } else if (type == DType::float32) {
        float fill = 0;
        if (value.float_data_size() == 1) fill = value.float_data(0);
        if (value.raw_data().size() == sizeof fill)
            std::copy_n(value.raw_data().data(), sizeof fill, reinterpret_cast<char*>(&fill));
        s.set(0, fromDoubles(type, out, std::vector<double>(count, fill)));
    }
}

void range(NodeShapes& s) {
    const Tensor start = s.value(0), limit = s.value(1), delta = s.value(2);
    const double first = toDoubles(start).at(0), last = toDoubles(limit).at(0), step = toDoubles(delta).at(0);
    if (step == 0) throw UnknownShape("step 0");
    const std::int64_t count = toSize(std::max(0.0, std::ceil((last - first) / step)));
    s.set(0, Shape{count});
    if (count > kSmallValueElements || isFloatingPoint(start.dtype())) return;
    std::vector<std::int64_t> values;
    for (std::int64_t i = 0; i < count; ++i)
        values.push_back(sum(toInt64(start)[0], product(i, toInt64(delta)[0])));
    s.set(0, fromInts(start.dtype(), {count}, values));
}

/// Rows and columns of the blocks that DepthToSpace and SpaceToDepth move.
std::int64_t blockSize(const NodeShapes& s) {
    const std::int64_t size = s.node().attributeInt("blocksize", 1);
    if (size < 1) throw UnknownShape(fmt::format("blocksize {}", size));
    return size;
}

void depthToSpace(NodeShapes& s) {
    const Shape in = s.shape(0);
    const std::int64_t b = blockSize(s);
    if (in.size() != 4) throw UnknownShape("rank 4 expected");
    s.set(0, Shape{in[0], in[1] / product(b, b), product(in[2], b), product(in[3], b)});
}

void spaceToDepth(NodeShapes& s) {
    const Shape in = s.shape(0);
    const std::int64_t b = blockSize(s);
    if (in.size() != 4) throw UnknownShape("rank 4 expected");
    s.set(0, Shape{in[0], product(in[1], product(b, b)), in[2] / b, in[3] / b});
}

void resize(NodeShapes& s) {
    const Shape in = s.shape(0);
    if (s.has(3)) {
        s.set(0, s.ints(3));
        return;
    }
    const std::vector<double> scales = toDoubles(s.value(s.opset() < 11 ? 1 : 2));
    if (scales.size() != in.size()) throw UnknownShape("one scale an axis");
    Shape out;
    for (std::size_t i = 0; i < in.size(); ++i)
        out.push_back(toSize(std::floor(static_cast<double>(in[i]) * scales[i])));
    s.set(0, out);
}

}  // namespace

void addLayoutShapeRules(ShapeRules& rules) {
    rules["Reshape"] = reshape;
    rules["Flatten"] = flatten;
    rules["Squeeze"] = squeeze;
    rules["Unsqueeze"] = unsqueeze;
    rules["Transpose"] = transpose;
    rules["Concat"] = concat;
    rules["Split"] = split;
    rules["Slice"] = slice;
    rules["Expand"] = expand;
    rules["Tile"] = tile;
    rules["Pad"] = pad;
    rules["Shape"] = shapeOf;
    rules["Size"] = [](NodeShapes& s) { s.set(0, Tensor::scalar<std::int64_t>(elementCount(s.shape(0)))); };
    rules["ConstantOfShape"] = constantOfShape;
    rules["Range"] = range;
    rules["DepthToSpace"] = depthToSpace;
    rules["SpaceToDepth"] = spaceToDepth;
    rules["Resize"] = resize;
}

}  // namespace tcompress::analysis
