// Operators that read or write by index.

#include <algorithm>

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

namespace {

Shape gatheredShape(const Shape& data, const Shape& indices, std::size_t axis) {
    Shape out(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(axis));
    out.insert(out.end(), indices.begin(), indices.end());
    out.insert(out.end(), data.begin() + static_cast<std::ptrdiff_t>(axis) + 1, data.end());
    return out;
}

void gather(NodeShapes& s) {
    const Shape data = s.shape(0);
    const std::size_t axis = s.axis(s.node().attributeInt("axis", 0), data.size());
    const Shape out = gatheredShape(data, s.shape(1), axis);
    s.set(0, out);
    if (!s.hasValue(0) || !s.hasValue(1) || elementCount(out) > kSmallValueElements) return;
    const std::int64_t inner =
        elementCount(Shape(data.begin() + static_cast<std::ptrdiff_t>(axis) + 1, data.end()));
    const std::int64_t outer =
        elementCount(Shape(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(axis)));
    std::vector<std::int64_t> source;
    for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t index : s.ints(1)) {
            const std::int64_t row = index < 0 ? index + data[axis] : index;
            if (row < 0 || row >= data[axis]) throw UnknownShape("index out of range");
            for (std::int64_t i = 0; i < inner; ++i) source.push_back((o * data[axis] + row) * inner + i);
        }
    }
    s.set(0, pick(s.value(0), out, source));
}

void gatherNd(NodeShapes& s) {
    const Shape data = s.shape(0);
    const Shape indices = s.shape(1);
    const std::int64_t batch = s.node().attributeInt("batch_dims", 0);
    const auto rank = static_cast<std::int64_t>(data.size());
    if (indices.empty() || batch < 0 || batch > rank || indices.back() > rank - batch)
        throw UnknownShape("indices do not fit");
    Shape out(indices.begin(), indices.end() - 1);
    out.insert(out.end(), data.begin() + batch + indices.back(), data.end());
    s.set(0, out);
}

void nonZero(NodeShapes& s) {
    const Tensor value = s.value(0);
    const std::vector<double> values = toDoubles(value);
    const std::int64_t count = static_cast<std::int64_t>(
        std::count_if(values.begin(), values.end(), [](double v) { return v != 0; }));
    const Shape steps = strides(value.shape());
    std::vector<std::int64_t> coordinates;
    for (std::size_t axis = 0; axis < value.shape().size(); ++axis) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            if (values[i] != 0)
                coordinates.push_back(static_cast<std::int64_t>(i) / steps[axis] % value.shape()[axis]);
        }
    }
    s.set(0, fromInts(DType::int64, {value.rank(), count}, coordinates));
}

void oneHot(NodeShapes& s) {
    Shape out = s.shape(0);
    const std::int64_t depth = toSize(toDoubles(s.value(1)).at(0));
    const std::size_t axis = s.axis(s.node().attributeInt("axis", -1), out.size() + 1);
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(axis), depth);
    s.set(0, out);
}

void gatherBlockQuantized(NodeShapes& s) {
    Shape data = s.shape(0);
    const std::size_t axis = s.axis(s.node().attributeInt("gather_axis", 0), data.size());
    // 4-bit values stored in uint8 hold two columns a byte.
    if (s.dtype(0) == DType::uint8 && s.node().attributeInt("bits", 4) == 4) data.back() = product(data.back(), 2);
    s.set(0, gatheredShape(data, s.shape(1), axis));
}

}  // namespace

void addIndexingShapeRules(ShapeRules& rules) {
    rules["Gather"] = gather;
    rules["GatherND"] = gatherNd;
    rules["GatherElements"] = [](NodeShapes& s) { s.set(0, s.shape(1)); };
    for (const char* name : {"ScatterND", "ScatterElements", "Scatter", "TensorScatter"}) {
        rules[name] = [](NodeShapes& s) { s.set(0, s.shape(0)); };
    }
    rules["NonZero"] = nonZero;
    rules["OneHot"] = oneHot;
    rules["com.microsoft.GatherBlockQuantized"] = gatherBlockQuantized;
}

}  // namespace tcompress::analysis
