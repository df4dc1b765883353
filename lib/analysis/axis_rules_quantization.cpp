// Quantization: values keep their axes; scales and zero points belong to the axis they are given for.

#include "lib/analysis/axis_rules.h"

namespace tcompress::analysis {

namespace {

// One scale a block of consecutive positions: the axis is blocks × block size where it divides.
void blockScales(NodeAxes& n, std::size_t input, const std::vector<Axis>& data, std::size_t axis) {
    const std::vector<Axis> scales = n.axes(input);
    for (std::size_t k = 0; k < data.size(); ++k) {
        if (k != axis) {
            if (!scales[k].empty()) n.unify(scales[k], data[k]);
            continue;
        }
        const std::int64_t blocks = n.shape(input)[k];
        if (blocks == 0 || n.shape(0)[k] % blocks != 0) {
            n.freeze(data[k], "quantized in uneven blocks");
            n.freeze(scales[k], "quantized in uneven blocks");
            continue;
        }
        auto [major, minor] = n.store().take(data[k], blocks);
        n.unify(scales[k], major);
    }
}

void linear(NodeAxes& n) {
    const std::vector<Axis> data = n.axes(0);
    for (std::size_t input = 1; input <= 2; ++input) {
        if (!n.has(input)) continue;
        const Shape& shape = n.shape(input);
        if (shape.size() == 1 && shape[0] > 1) {
            n.unify(n.axes(input)[0], data[n.position(n.node().attributeInt("axis", 1), data.size())]);
        } else if (shape.size() == data.size() && shape.size() > 1) {
            blockScales(n, input, data, n.position(n.node().attributeInt("axis", 1), data.size()));
        }
    }
    n.set(0, data);
}

void dynamic(NodeAxes& n) {
    n.set(0, n.axes(0));
    n.set(1, {});
    n.set(2, {});
    for (const Axis& axis : n.axes(0)) n.event(EventKind::dynamicQuantization, axis);
}

}  // namespace

void addQuantizationAxisRules(AxisRules& rules) {
    for (const char* name : {"QuantizeLinear", "DequantizeLinear", "com.microsoft.QuantizeLinear",
                             "com.microsoft.DequantizeLinear"}) {
        rules[name] = linear;
    }
    rules["DynamicQuantizeLinear"] = dynamic;
}

}  // namespace tcompress::analysis
