// Normalizations, softmax and quantization: the shape stays, statistics come beside it.

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

namespace {

Shape statisticsShape(Shape shape, std::size_t axis) {
    for (std::size_t i = axis; i < shape.size(); ++i) shape[i] = 1;
    return shape;
}

void layerNorm(NodeShapes& s) {
    const Shape in = s.shape(0);
    const Shape statistics = statisticsShape(in, s.axis(s.node().attributeInt("axis", -1), in.size()));
    s.set(0, in);
    s.set(1, statistics);
    s.set(2, statistics);
}

void skipLayerNorm(NodeShapes& s) {
    const Shape in = s.shape(0);
    const Shape statistics = statisticsShape(in, in.empty() ? 0 : in.size() - 1);
    s.set(0, in);
    s.set(1, statistics);
    s.set(2, statistics);
    s.set(3, in);
}

void dynamicQuantize(NodeShapes& s) {
    s.set(0, s.shape(0));
    s.set(1, Shape{});
    s.set(2, Shape{});
}

}  // namespace

void addNormShapeRules(ShapeRules& rules) {
    for (const char* name : {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
        rules[name] = layerNorm;
    for (const char* name :
         {"com.microsoft.SkipLayerNormalization", "com.microsoft.SkipSimplifiedLayerNormalization"}) {
        rules[name] = skipLayerNorm;
    }
    const auto same = [](NodeShapes& s) { s.set(0, s.shape(0)); };
    for (const char* name :
         {"Softmax", "LogSoftmax", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
          "LpNormalization", "MeanVarianceNormalization", "QuantizeLinear", "DequantizeLinear",
          "com.microsoft.QuantizeLinear", "com.microsoft.DequantizeLinear",
          "com.microsoft.SimplifiedLayerNormalization"}) {
        rules[name] = same;
    }
    rules["DynamicQuantizeLinear"] = dynamicQuantize;
}

}  // namespace tcompress::analysis
