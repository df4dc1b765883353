// A quantized operator is DequantizeLinear → operator → QuantizeLinear. Definitions are written in ONNX's
// text syntax;
// `@name` is an attribute of the calling node, left out when the node does not have it.

#include "lib/exec/contrib_functions.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <onnx/defs/parser.h>

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "lib/exec/attributes.h"
#include "lib/support/check.h"

namespace tcompress::exec {

namespace {

/// A definition in the making: the node that calls it and the text of its body so far.
class Body {
  public:
    explicit Body(const onnx::NodeProto& call) : call_(call), attributes_(call) {}

    const Attributes& attributes() const { return attributes_; }
    bool has(int input) const { return input < call_.input_size() && !call_.input(input).empty(); }
    int inputCount() const { return call_.input_size(); }
    bool wants(int output) const { return output < call_.output_size() && !call_.output(output).empty(); }

    /// Adds a statement, for example "y = Add(a, b)".
    template <class... Parts>
    void add(fmt::format_string<Parts...> text, Parts&&... parts) {
        text_ += "  " + fmt::format(text, std::forward<Parts>(parts)...) + "\n";
    }
    /// A quantized operand: inputs `at` (values), `at` + 1 (scale), `at` + 2 (zero point), as float `name`.
    void dequantize(const std::string& name, int at) { add("{} = DequantizeLinear({})", name, triple(at)); }
    /// The first output from float `name`; its scale and zero point are inputs `at` and `at` + 1. Without a
    /// zero point the result has the type of input `like`.
    void quantize(const std::string& name, int at, int like = 0) {
        std::string zero = input(at + 1);
        if (!has(at + 1)) {
            zero = "zero_of_result";
            add("{} = CastLike(zero, {})", zero, input(like));
            text_ = "  zero = Constant<value = int64 {0}>()\n" + text_;
        }
        add("y0 = QuantizeLinear({}, {}, {})", name, input(at), zero);
    }
    void useOpset(std::int64_t version) { opset_ = version; }

    static std::string input(int i) { return fmt::format("x{}", i); }

    onnx::FunctionProto function(std::vector<std::string> outputs = {"y0"}) const {
        // What the body reads and the call does not give is left out, not looked up by that name in the
        // graph.
        std::vector<std::string> inputs;
        for (int i = 0; i < std::max(inputCount(), kMostInputs); ++i) inputs.push_back(input(i));
        const std::string text = fmt::format(
            "<opset_import: [\"\" : {}, \"com.microsoft\" : 1], domain: \"com.microsoft\">\n{} ({}) => ({}) "
            "{{\n{}}}\n",
            opset_, call_.op_type(), fmt::join(inputs, ", "), fmt::join(outputs, ", "), text_);
        onnx::FunctionProto function;
        const auto status = onnx::OnnxParser::Parse(function, text.c_str());
        TCOMPRESS_CHECK(status.IsOK(), "the definition of an operator is well-formed: " +
                                           status.ErrorMessage() + "\n" + text);
        return function;
    }

  private:
    std::string triple(int at) const {
        return fmt::format("{}, {}{}", input(at), input(at + 1), has(at + 2) ? ", " + input(at + 2) : "");
    }

    const onnx::NodeProto& call_;
    Attributes attributes_;
    static constexpr int kMostInputs = 18;  // that a definition reads
    std::string text_;
    std::int64_t opset_ = 21;
};

using Define = std::function<std::optional<onnx::FunctionProto>(Body)>;

constexpr const char* kWindowAttributes =
    "auto_pad: string = @auto_pad, kernel_shape: ints = @kernel_shape, pads: ints = @pads, strides: ints = "
    "@strides";
constexpr const char* kConvolutionAttributes =
    "auto_pad: string = @auto_pad, kernel_shape: ints = @kernel_shape, pads: ints = @pads, strides: ints = "
    "@strides, "
    "dilations: ints = @dilations, group: int = @group";

/// The permutation from channels last to channels first, and back.
struct ChannelMoves {
    std::string first, last;
};
ChannelMoves channelMoves(std::size_t spatial) {
    std::vector<std::size_t> first{0, spatial + 1}, last{0};
    for (std::size_t i = 1; i <= spatial; ++i) first.push_back(i), last.push_back(i + 1);
    last.push_back(1);
    return {fmt::format("[{}]", fmt::join(first, ", ")), fmt::format("[{}]", fmt::join(last, ", "))};
}

/// `statement` computes y from x. With channels_last = 1 the operator is told where the channels are by
/// transposing around it.
std::optional<onnx::FunctionProto> channelsLast(
    Body& body, const std::string& from, const std::string& to,
    const std::function<void(std::string, std::string)>& statement) {
    const auto kernel = body.attributes().integers("kernel_shape");
    if (!kernel) return std::nullopt;
    const ChannelMoves moves = channelMoves(kernel->size());
    body.add("channels_first = Transpose<perm = {}>({})", moves.first, from);
    statement("channels_first", "computed");
    body.add("{} = Transpose<perm = {}>(computed)", to, moves.last);
    return body.function();
}

// Inputs a, its scale and zero point, b, its scale and zero point, the result's scale and zero point.
onnx::FunctionProto quantizedBinary(Body body, const char* operation) {
    body.dequantize("a", 0);
    body.dequantize("b", 3);
    body.add("c = {}(a, b)", operation);
    body.quantize("c", 6);
    return body.function();
}

// Inputs x, its scale and zero point, the result's scale and zero point.
onnx::FunctionProto quantizedUnary(Body body, const char* operation) {
    body.dequantize("x", 0);
    body.add("y = {}(x)", operation);
    body.quantize("y", 3);
    return body.function();
}

/// Before version 13 the axes from `axis` on are one.
std::optional<onnx::FunctionProto> quantizedSoftmax(Body body) {
    const bool flat = body.attributes().integer("opset", 13) < 13;
    if (flat) body.useOpset(12);
    body.dequantize("x", 0);
    body.add("y = Softmax<axis = {}>(x)", body.attributes().integer("axis", flat ? 1 : -1));
    body.quantize("y", 3);
    return body.function();
}

std::optional<onnx::FunctionProto> quantizedWhere(Body body) {
    body.dequantize("a", 1);
    body.dequantize("b", 4);
    body.add("y = Where(x0, a, b)");
    body.quantize("y", 7, 1);
    return body.function();
}

// Inputs the result's scale and zero point, then each part with its scale and zero point.
std::optional<onnx::FunctionProto> quantizedConcat(Body body) {
    std::vector<std::string> parts;
    for (int at = 2; at + 2 < body.inputCount(); at += 3) {
        parts.push_back(fmt::format("part{}", at));
        body.dequantize(parts.back(), at);
    }
    body.add("y = Concat<axis: int = @axis>({})", fmt::join(parts, ", "));
    body.quantize("y", 0, 2);
    return body.function();
}

std::optional<onnx::FunctionProto> quantizedAveragePool(Body body) {
    const auto pool = [&](const std::string& x, const std::string& y) {
        body.add(
            "{} = AveragePool<{}, ceil_mode: int = @ceil_mode, count_include_pad: int = "
            "@count_include_pad>({})",
            y, kWindowAttributes, x);
    };
    body.dequantize("x", 0);
    if (!body.attributes().integer("channels_last", 0)) {
        pool("x", "y");
    } else if (!channelsLast(body, "x", "y", pool)) {
        return std::nullopt;
    }
    body.quantize("y", 3);
    return body.function();
}

std::optional<onnx::FunctionProto> quantizedGlobalAveragePool(Body body) {
    body.dequantize("x", 0);
    if (!body.attributes().integer("channels_last", 0)) {
        body.add("y = GlobalAveragePool(x)");
    } else {
        body.add("batch = Shape<start = 0, end = 1>(x)");
        body.add("spatial = Shape<start = 1, end = -1>(x)");
        body.add("spatial_axes = Shape(spatial)");
        body.add("channels = Shape<start = -1>(x)");
        body.add("ones = ConstantOfShape<value = int64[1] {{1}}>(spatial_axes)");
        body.add("any = Constant<value_ints = [-1]>()");
        body.add("flat_shape = Concat<axis = 0>(batch, any, channels)");
        body.add("flat = Reshape(x, flat_shape)");
        body.add("one = Constant<value_ints = [1]>()");
        body.add("mean = ReduceMean(flat, one)");
        body.add("shape = Concat<axis = 0>(batch, ones, channels)");
        body.add("y = Reshape(mean, shape)");
    }
    body.quantize("y", 3);
    return body.function();
}

std::optional<onnx::FunctionProto> quantizedConvolution(Body body) {
    const auto convolution = [&](const std::string& x, const std::string& y) {
        body.add("{} = QLinearConv<{}>({}, x1, x2, x3, x4, x5, x6, x7{})", y, kConvolutionAttributes, x,
                 body.has(8) ? ", x8" : "");
    };
    if (body.attributes().integer("channels_last", 0)) return channelsLast(body, "x0", "y0", convolution);
    convolution("x0", "y0");
    return body.function();
}

std::optional<onnx::FunctionProto> channelsLastMaxPool(Body body) {
    return channelsLast(body, "x0", "y0", [&](const std::string& x, const std::string& y) {
        body.add("{} = MaxPool<{}, ceil_mode: int = @ceil_mode, dilations: ints = @dilations>({})", y,
                 kWindowAttributes, x);
    });
}

/// y = alpha · (A − aZero) · (B − bZero) · aScale · bScale + C, where C counts in units of that scale;
/// quantized when a scale for y is given. Inputs A, aScale, aZero, B, bScale, bZero, [C], [yScale], [yZero].
std::optional<onnx::FunctionProto> quantizedGemm(Body body) {
    const auto operand = [&](int at, const char* flag) {
        if (!body.attributes().integer(flag, 0)) return Body::input(at);
        body.add("t{} = Transpose<perm = [1, 0]>(x{})", at, at);
        return fmt::format("t{}", at);
    };
    const std::string a = operand(0, "transA"), b = operand(3, "transB");
    body.add("product = MatMulInteger({}, {}, x2, x5)", a, b);
    body.add("sum = {}", body.has(6) ? "Add(product, x6)" : "Identity(product)");
    body.add("real = Cast<to = 1>(sum)");
    body.add("alpha = Constant<value = float {{{:.9g}}}>()", body.attributes().real("alpha", 1));
    body.add("step = Mul(x1, x4)");
    body.add("scale = Mul(alpha, step)");
    body.add("{} = Mul(real, scale)", body.has(7) ? "y" : "y0");
    if (body.has(7)) body.quantize("y", 7);
    return body.function();
}

/// Inputs x, W, bias, scales of x and W, [mask_index], [zero points of x and W], [past]; outputs y,
/// [present].
std::optional<onnx::FunctionProto> quantizedAttention(Body body) {
    if (body.attributes().integer("do_rotary", 0) ||
        body.attributes().integer("past_present_share_buffer", 0))
        return std::nullopt;
    body.add("projected = com.microsoft.MatMulIntegerToFloat(x0, x1, x3, x4, {}, {}, x2)",
             body.has(6) ? "x6" : "\"\"", body.has(7) ? "x7" : "\"\"");
    body.add("q, k, v = Split<axis = -1, num_outputs = 3>(projected)");
    body.add("first = Constant<value_ints = [0]>()");
    if (body.has(8)) {
        body.add("old_keys, old_values = Split<axis = 0, num_outputs = 2>(x8)");
        body.add("past_key = Squeeze(old_keys, first)");
        body.add("past_value = Squeeze(old_values, first)");
    }
    body.add(
        "y0, key, value = com.microsoft.MultiHeadAttention<num_heads: int = @num_heads, unidirectional: int "
        "= @unidirectional, "
        "scale: float = @scale, mask_filter_value: float = @mask_filter_value>(q, k, v, \"\", {}, \"\"{})",
        body.has(5) ? "x5" : "\"\"", body.has(8) ? ", past_key, past_value" : "");
    if (!body.wants(1)) return body.function();
    body.add("keys = Unsqueeze(key, first)");
    body.add("values = Unsqueeze(value, first)");
    body.add("y1 = Concat<axis = 0>(keys, values)");
    return body.function({"y0", "y1"});
}

/// Tables and vectors of 8 bits. Inputs ids, [segment ids], three tables, gamma, beta, [mask], then the
/// scales and the zero points of the five.
std::optional<onnx::FunctionProto> quantizedEmbedding(Body body) {
    std::vector<std::string> operands;
    for (int i = 0; i < 5; ++i) {
        if (!body.has(2 + i)) {
            operands.emplace_back("\"\"");
            continue;
        }
        operands.push_back(fmt::format("operand{}", i));
        body.add("{} = DequantizeLinear(x{}, x{}, x{})", operands.back(), 2 + i, 8 + i, 13 + i);
    }
    body.add("y0, {} = com.microsoft.EmbedLayerNormalization<epsilon: float = @epsilon>(x0, {}, {}, {})",
             body.wants(1) ? "y1" : "count", body.has(1) ? "x1" : "\"\"", fmt::join(operands, ", "),
             body.has(7) ? "x7" : "\"\"");
    return body.wants(1) ? body.function({"y0", "y1"}) : body.function();
}

/// An activation by name with its parameters in the order of its attributes; false when it is not known.
bool addActivation(Body& body, const std::string& name, const std::vector<float>& parameters,
                   const std::string& x) {
    static const std::map<std::string, std::vector<std::string>> kAttributes{
        {"Relu", {}},
        {"Sigmoid", {}},
        {"Tanh", {}},
        {"Softplus", {}},
        {"Softsign", {}},
        {"HardSwish", {}},
        {"LeakyRelu", {"alpha"}},
        {"ThresholdedRelu", {"alpha"}},
        {"Elu", {"alpha"}},
        {"HardSigmoid", {"alpha", "beta"}},
        {"Selu", {"alpha", "gamma"}}};
    if (name == "Clip" && parameters.size() == 2) {
        body.add("low = Constant<value = float {{{:.9g}}}>()", parameters[0]);
        body.add("high = Constant<value = float {{{:.9g}}}>()", parameters[1]);
        body.add("y0 = Clip({}, low, high)", x);
        return true;
    }
    const auto known = kAttributes.find(name);
    if (known == kAttributes.end()) return false;
    std::vector<std::string> given;
    for (std::size_t i = 0; i < std::min(parameters.size(), known->second.size()); ++i)
        given.push_back(fmt::format("{}: float = {:.9g}", known->second[i], parameters[i]));
    body.add("y0 = {}{}({})", name, given.empty() ? "" : fmt::format("<{}>", fmt::join(given, ", ")), x);
    return true;
}

/// activation(convolution + residual). Inputs x, W, [bias], [residual].
std::optional<onnx::FunctionProto> fusedConvolution(Body body) {
    body.add("convolved = Conv<{}>(x0, x1{})", kConvolutionAttributes, body.has(2) ? ", x2" : "");
    body.add("sum = {}", body.has(3) ? "Add(convolved, x3)" : "Identity(convolved)");
    const std::string activation = body.attributes().text("activation", "");
    const std::vector<float> parameters =
        body.attributes().reals("activation_params").value_or(std::vector<float>{});
    if (activation.empty()) {
        body.add("y0 = Identity(sum)");
    } else if (!addActivation(body, activation, parameters, "sum")) {
        return std::nullopt;
    }
    return body.function();
}

std::optional<onnx::FunctionProto> fusedGemm(Body body) {
    body.add(
        "product = Gemm<alpha: float = @alpha, beta: float = @beta, transA: int = @transA, transB: int = "
        "@transB>(x0, x1{})",
        body.has(2) ? ", x2" : "");
    std::vector<float> parameters;
    for (const char* name : {"activation_alpha", "activation_beta", "activation_gamma"}) {
        if (body.attributes().has(name)) parameters.push_back(body.attributes().real(name, 0));
    }
    if (!addActivation(body, body.attributes().text("activation", ""), parameters, "product"))
        return std::nullopt;
    return body.function();
}

}  // namespace

std::optional<onnx::FunctionProto> contribFunction(const onnx::NodeProto& node) {
    static const std::map<std::string, Define> kDefinitions{
        {"QLinearAdd", [](Body body) { return quantizedBinary(std::move(body), "Add"); }},
        {"QLinearMul", [](Body body) { return quantizedBinary(std::move(body), "Mul"); }},
        {"QLinearSigmoid", [](Body body) { return quantizedUnary(std::move(body), "Sigmoid"); }},
        {"QLinearLeakyRelu",
         [](Body body) { return quantizedUnary(std::move(body), "LeakyRelu<alpha: float = @alpha>"); }},
        {"QLinearSoftmax", quantizedSoftmax},
        {"QLinearWhere", quantizedWhere},
        {"QLinearConcat", quantizedConcat},
        {"QLinearAveragePool", quantizedAveragePool},
        {"QLinearGlobalAveragePool", quantizedGlobalAveragePool},
        {"QLinearConv", quantizedConvolution},
        {"NhwcMaxPool", channelsLastMaxPool},
        {"QGemm", quantizedGemm},
        {"QAttention", quantizedAttention},
        {"QEmbedLayerNormalization", quantizedEmbedding},
        {"FusedConv", fusedConvolution},
        {"FusedGemm", fusedGemm},
    };
    const auto found = kDefinitions.find(node.op_type());
    return found == kDefinitions.end() ? std::nullopt : found->second(Body(node));
}

}  // namespace tcompress::exec
