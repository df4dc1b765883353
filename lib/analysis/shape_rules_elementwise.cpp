// Element-wise operators: the broadcast shape, and the values of small operands.

#include <cmath>
#include <limits>

#include "lib/analysis/elementwise_operators.h"
#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

namespace {

struct BinaryOperator {
    const char* name;
    IntOperator ints;
    RealOperator reals;
};

std::int64_t difference(std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    if (__builtin_sub_overflow(a, b, &result)) throw UnknownShape("a difference that is too large");
    return result;
}

std::int64_t negated(std::int64_t a) { return difference(0, a); }

std::int64_t power(std::int64_t base, std::int64_t exponent) {
    return toSize(std::round(std::pow(static_cast<double>(base), static_cast<double>(exponent))));
}

// Python's sign rule (fmod = 0), the only one exporters use for shapes.
std::int64_t modulo(std::int64_t a, std::int64_t b) {
    if (b == 0) throw UnknownShape("modulo by zero");
    if (b == -1) return 0;  // the least number's would trap
    const std::int64_t remainder = a % b;
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

std::int64_t quotient(std::int64_t a, std::int64_t b) {
    if (b == 0) throw UnknownShape("division by zero");
    return b == -1 ? negated(a) : a / b;
}

constexpr BinaryOperator kArithmetic[] = {
    {"Add", sum, [](double a, double b) { return a + b; }},
    {"Sub", difference, [](double a, double b) { return a - b; }},
    {"Mul", product, [](double a, double b) { return a * b; }},
    {"Div", quotient, [](double a, double b) { return a / b; }},
    {"Mod", modulo, [](double a, double b) { return std::fmod(a, b); }},
    {"Pow", power, [](double a, double b) { return std::pow(a, b); }},
};

constexpr BinaryOperator kSelection[] = {
    {"Min", [](std::int64_t a, std::int64_t b) { return a < b ? a : b; },
     [](double a, double b) { return a < b ? a : b; }},
    {"Max", [](std::int64_t a, std::int64_t b) { return a > b ? a : b; },
     [](double a, double b) { return a > b ? a : b; }},
    {"Sum", sum, [](double a, double b) { return a + b; }},
};

constexpr BinaryOperator kComparison[] = {
    {"Equal", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a == b; },
     [](double a, double b) -> double { return a == b; }},
    {"Less", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a < b; },
     [](double a, double b) -> double { return a < b; }},
    {"LessOrEqual", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a <= b; },
     [](double a, double b) -> double { return a <= b; }},
    {"Greater", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a > b; },
     [](double a, double b) -> double { return a > b; }},
    {"GreaterOrEqual", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a >= b; },
     [](double a, double b) -> double { return a >= b; }},
    {"And", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a != 0 && b != 0; },
     [](double a, double b) -> double { return a != 0 && b != 0; }},
    {"Or", [](std::int64_t a, std::int64_t b) -> std::int64_t { return a != 0 || b != 0; },
     [](double a, double b) -> double { return a != 0 || b != 0; }},
    {"Xor", [](std::int64_t a, std::int64_t b) -> std::int64_t { return (a != 0) != (b != 0); },
     [](double a, double b) -> double { return (a != 0) != (b != 0); }},
};

struct UnaryOperator {
    const char* name;
    std::int64_t (*ints)(std::int64_t);
    double (*reals)(double);
};

constexpr UnaryOperator kUnary[] = {
    {"Neg", negated, [](double a) { return -a; }},
    {"Abs", [](std::int64_t a) { return a < 0 ? negated(a) : a; }, [](double a) { return std::fabs(a); }},
    {"Not", [](std::int64_t a) -> std::int64_t { return a == 0; }, nullptr},
    {"Sqrt", nullptr, [](double a) { return std::sqrt(a); }},
    {"Reciprocal", nullptr, [](double a) { return 1 / a; }},
    {"Floor", nullptr, [](double a) { return std::floor(a); }},
    {"Ceil", nullptr, [](double a) { return std::ceil(a); }},
    {"Round", nullptr, [](double a) { return std::nearbyint(a); }},
    {"Log", nullptr, [](double a) { return std::log(a); }},
    {"Exp", nullptr, [](double a) { return std::exp(a); }},
    {"Identity", [](std::int64_t a) { return a; }, [](double a) { return a; }},
};

// No element-wise operators; the output has the shape of the first input.
constexpr const char* kShapePreserving[] = {
    "CumSum", "Trilu", "LRN", "Hardmax", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike",
};

Shape broadcastInputs(const NodeShapes& s) {
    Shape shape = s.shape(0);
    for (std::size_t i = 1; i < s.node().inputs().size(); ++i) shape = broadcast(shape, s.shape(i));
    return shape;
}

void applyBinary(NodeShapes& s, const BinaryOperator& op, bool boolean) {
    const Shape shape = broadcastInputs(s);
    s.set(0, shape);
    if (elementCount(shape) > kSmallValueElements) return;
    Tensor result = s.value(0);
    const DType type = boolean ? DType::boolean : result.dtype();
    for (std::size_t i = 1; i < s.node().inputs().size(); ++i) {
        result = combine(result, s.value(i), type, op.ints, op.reals);
    }
    s.set(0, std::move(result));
}

void applyUnary(NodeShapes& s, const UnaryOperator& op) {
    s.set(0, s.shape(0));
    const Tensor value = s.value(0);
    if (isFloatingPoint(value.dtype())) {
        if (op.reals == nullptr) return;
        std::vector<double> values = toDoubles(value);
        for (double& v : values) v = op.reals(v);
        s.set(0, fromDoubles(value.dtype(), value.shape(), values));
    } else {
        if (op.ints == nullptr) return;
        std::vector<std::int64_t> values = toInt64(value);
        for (std::int64_t& v : values) v = op.ints(v);
        s.set(0, fromInts(value.dtype(), value.shape(), values));
    }
}

void cast(NodeShapes& s) {
    s.set(0, s.shape(0));
    const auto type = static_cast<DType>(s.node().attributeInt("to", 0));
    const Tensor value = s.value(0);
    // Saturating as ONNX Cast would differ for out-of-range floats, which no shape is computed from.
    if (isInteger(type) || type == DType::boolean || isFloatingPoint(type)) s.set(0, convert(value, type));
}

void castLike(NodeShapes& s) {
    s.set(0, s.shape(0));
    const DType type = s.dtype(1);
    if (type != DType::undefined) s.set(0, convert(s.value(0), type));
}

void where(NodeShapes& s) {
    const Shape shape = broadcast(broadcast(s.shape(0), s.shape(1)), s.shape(2));
    s.set(0, shape);
    if (elementCount(shape) > kSmallValueElements) return;
    const std::vector<std::int64_t> condition = toInt64(broadcastTo(s.value(0), shape));
    const Tensor yes = broadcastTo(s.value(1), shape);
    const Tensor no = broadcastTo(s.value(2), shape);
    if (isFloatingPoint(yes.dtype())) {
        std::vector<double> out = toDoubles(no);
        const std::vector<double> chosen = toDoubles(yes);
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = condition[i] != 0 ? chosen[i] : out[i];
        s.set(0, fromDoubles(yes.dtype(), shape, out));
    } else {
        std::vector<std::int64_t> out = toInt64(no);
        const std::vector<std::int64_t> chosen = toInt64(yes);
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = condition[i] != 0 ? chosen[i] : out[i];
        s.set(0, fromInts(yes.dtype(), shape, out));
    }
}

void clip(NodeShapes& s) {
    s.set(0, s.shape(0));
    Tensor value = s.value(0);
    if (s.has(1)) value = combine(value, s.value(1), value.dtype(), kSelection[1].ints, kSelection[1].reals);
    if (s.has(2)) value = combine(value, s.value(2), value.dtype(), kSelection[0].ints, kSelection[0].reals);
    s.set(0, std::move(value));
}

void dropout(NodeShapes& s) {
    s.set(1, s.shape(0));
    s.set(0, s.shape(0));
}

}  // namespace

void addElementwiseShapeRules(ShapeRules& rules) {
    for (const std::string_view name : kElementwiseOperators)
        rules[std::string(name)] = [](NodeShapes& s) { s.set(0, broadcastInputs(s)); };
    // Those whose small values shapes are computed from.
    for (const BinaryOperator& op : kArithmetic)
        rules[op.name] = [&op](NodeShapes& s) { applyBinary(s, op, false); };
    for (const BinaryOperator& op : kSelection)
        rules[op.name] = [&op](NodeShapes& s) { applyBinary(s, op, false); };
    for (const BinaryOperator& op : kComparison)
        rules[op.name] = [&op](NodeShapes& s) { applyBinary(s, op, true); };
    for (const UnaryOperator& op : kUnary) rules[op.name] = [&op](NodeShapes& s) { applyUnary(s, op); };
    for (const char* name : kShapePreserving) rules[name] = [](NodeShapes& s) { s.set(0, s.shape(0)); };
    rules["Cast"] = cast;
    rules["CastLike"] = castLike;
    rules["Where"] = where;
    rules["Clip"] = clip;
    rules["Dropout"] = dropout;
}

}  // namespace tcompress::analysis
