// Products: matrix products in all their forms, convolutions, Einsum, recurrent cells.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lib/analysis/einsum.h"
#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

Shape matmulShape(Shape a, Shape b) {
    if (a.empty() || b.empty()) throw UnknownShape("a product of scalars");
    const bool vectorA = a.size() == 1;
    const bool vectorB = b.size() == 1;
    if (vectorA) a.insert(a.begin(), 1);
    if (vectorB) b.push_back(1);
    if (a.back() != b[b.size() - 2]) throw UnknownShape(fmt::format("{} times {}", toString(a), toString(b)));
    Shape out = broadcast(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
    if (!vectorA) out.push_back(a[a.size() - 2]);
    if (!vectorB) out.push_back(b.back());
    return out;
}

namespace {

void swapLast(Shape& shape) {
    if (shape.size() >= 2) std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
}

void fusedMatmul(NodeShapes& s) {
    Shape a = s.shape(0), b = s.shape(1);
    if (s.node().attributeInt("transBatchA", 0) != 0 || s.node().attributeInt("transBatchB", 0) != 0) {
        throw UnknownShape("transposed batch axes");
    }
    if (s.node().attributeInt("transA", 0) != 0) swapLast(a);
    if (s.node().attributeInt("transB", 0) != 0) swapLast(b);
    s.set(0, matmulShape(a, b));
}

void gemm(NodeShapes& s) {
    Shape a = s.shape(0), b = s.shape(1);
    if (s.node().attributeInt("transA", 0) != 0) swapLast(a);
    if (s.node().attributeInt("transB", 0) != 0) swapLast(b);
    if (a.size() != 2 || b.size() != 2) throw UnknownShape("Gemm of other than matrices");
    s.set(0, matmulShape(a, b));
}

void matmulNBits(NodeShapes& s) {
    Shape out = s.shape(0);
    if (out.empty() || out.back() != s.node().attributeInt("K", 0))
        throw UnknownShape("K is not the input's width");
    out.back() = s.node().attributeInt("N", 0);
    s.set(0, out);
}

/// Kernel, stride, dilation and padding of a convolution or pooling over the spatial axes.
struct Window {
    std::vector<std::int64_t> kernel, strides, dilations, pads;
    std::string autoPad;
    bool ceil = false;
};

Window window(const NodeShapes& s, std::vector<std::int64_t> kernel) {
    Window w;
    const std::size_t n = kernel.size();
    w.kernel = std::move(kernel);
    w.strides = s.node().attributeInts("strides").value_or(std::vector<std::int64_t>(n, 1));
    w.dilations = s.node().attributeInts("dilations").value_or(std::vector<std::int64_t>(n, 1));
    w.pads = s.node().attributeInts("pads").value_or(std::vector<std::int64_t>(2 * n, 0));
    w.autoPad = s.node().attributeString("auto_pad", "NOTSET");
    w.ceil = s.node().attributeInt("ceil_mode", 0) != 0;
    if (w.strides.size() != n || w.dilations.size() != n || w.pads.size() != 2 * n)
        throw UnknownShape("window attributes");
    const auto isPositive = [](std::int64_t value) { return value > 0; };
    for (const auto* values : {&w.kernel, &w.strides, &w.dilations}) {
        if (!std::all_of(values->begin(), values->end(), isPositive))
            throw UnknownShape(fmt::format("a window of {}", toString(*values)));
    }
    return w;
}

/// Positions from a window's first element to its last.
std::int64_t reach(const Window& w, std::size_t i) { return sum(product(w.kernel[i] - 1, w.dilations[i]), 1); }

std::int64_t windowed(const Window& w, std::size_t i, std::int64_t in) {
    const std::int64_t stride = w.strides[i];
    const auto steps = [&](std::int64_t length) { return length / stride + (length % stride != 0 ? 1 : 0); };
    if (w.autoPad.rfind("SAME", 0) == 0) return steps(in);
    const std::int64_t pad = w.autoPad == "VALID" ? 0 : sum(w.pads[i], w.pads[i + w.kernel.size()]);
    const std::int64_t room = sum(sum(in, pad), -reach(w, i));
    if (room < 0) throw UnknownShape("window larger than the input");
    std::int64_t out = (w.ceil ? steps(room) : room / stride) + 1;
    // A window may not start inside the padding at the end.
    if (w.ceil && product(out - 1, stride) >= sum(in, w.pads[i])) --out;
    return out;
}

void conv(NodeShapes& s, std::size_t weightInput) {
    const Shape x = s.shape(0), weight = s.shape(weightInput);
    if (x.size() != weight.size() || x.size() < 3) throw UnknownShape("convolution of other ranks");
    const Window w = window(s, Shape(weight.begin() + 2, weight.end()));
    Shape out{x[0], weight[0]};
    for (std::size_t i = 0; i + 2 < x.size(); ++i) out.push_back(windowed(w, i, x[i + 2]));
    s.set(0, out);
}

void convTranspose(NodeShapes& s) {
    const Shape x = s.shape(0), weight = s.shape(1);
    if (x.size() != weight.size() || x.size() < 3) throw UnknownShape("convolution of other ranks");
    if (s.node().attribute("output_shape") != nullptr) throw UnknownShape("explicit output_shape");
    const Window w = window(s, Shape(weight.begin() + 2, weight.end()));
    const auto extra =
        s.node().attributeInts("output_padding").value_or(std::vector<std::int64_t>(w.kernel.size(), 0));
    if (extra.size() != w.kernel.size()) throw UnknownShape("output_padding");
    Shape out{x[0], product(weight[1], s.node().attributeInt("group", 1))};
    for (std::size_t i = 0; i < w.kernel.size(); ++i) {
        if (w.autoPad.rfind("SAME", 0) == 0) {
            out.push_back(product(x[i + 2], w.strides[i]));
        } else {
            const std::int64_t pad = sum(w.pads[i], w.pads[i + w.kernel.size()]);
            const std::int64_t full = sum(product(w.strides[i], x[i + 2] - 1), sum(extra[i], reach(w, i)));
            out.push_back(sum(full, product(pad, -1)));
        }
    }
    s.set(0, out);
}

void pool(NodeShapes& s) {
    const Shape x = s.shape(0);
    const auto kernel = s.node().attributeInts("kernel_shape");
    if (!kernel || x.size() != kernel->size() + 2) throw UnknownShape("kernel_shape");
    const Window w = window(s, *kernel);
    Shape out{x[0], x[1]};
    for (std::size_t i = 0; i < kernel->size(); ++i) out.push_back(windowed(w, i, x[i + 2]));
    s.set(0, out);
    s.set(1, out);
}

void globalPool(NodeShapes& s) {
    Shape out = s.shape(0);
    for (std::size_t i = 2; i < out.size(); ++i) out[i] = 1;
    s.set(0, out);
}

void einsum(NodeShapes& s) {
    const auto equation = parseEinsum(s.node().attributeString("equation", ""));
    if (!equation || equation->inputs.size() != s.node().inputs().size()) throw UnknownShape("equation");
    std::map<char, std::int64_t> sizes;
    for (std::size_t i = 0; i < equation->inputs.size(); ++i) {
        const Shape in = s.shape(i);
        if (in.size() != equation->inputs[i].size()) throw UnknownShape("equation of another rank");
        for (std::size_t k = 0; k < in.size(); ++k) {
            std::int64_t& size = sizes.try_emplace(equation->inputs[i][k], 1).first->second;
            if (size == 1) size = in[k];
        }
    }
    Shape out;
    for (char letter : equation->output) out.push_back(sizes.at(letter));
    s.set(0, out);
}

void recurrent(NodeShapes& s) {
    const Shape x = s.shape(0), weight = s.shape(1), recurrence = s.shape(2);
    if (x.size() != 3 || weight.size() != 3 || recurrence.size() != 3 || s.node().attributeInt("layout", 0) != 0)
        throw UnknownShape("batch-major recurrent layout");
    const std::int64_t hidden = recurrence.back();
    const std::int64_t directions = weight.front();
    s.set(0, Shape{x[0], directions, x[1], hidden});
    s.set(1, Shape{directions, x[1], hidden});
    s.set(2, Shape{directions, x[1], hidden});
}

}  // namespace

void addLinearShapeRules(ShapeRules& rules) {
    const auto product = [](NodeShapes& s) { s.set(0, matmulShape(s.shape(0), s.shape(1))); };
    for (const char* name : {"MatMul", "MatMulInteger", "com.microsoft.MatMulIntegerToFloat",
                             "com.microsoft.DynamicQuantizeMatMul"}) {
        rules[name] = product;
    }
    const auto quantizedProduct = [](NodeShapes& s) { s.set(0, matmulShape(s.shape(0), s.shape(3))); };
    rules["QLinearMatMul"] = quantizedProduct;
    rules["com.microsoft.QLinearMatMul"] = quantizedProduct;
    rules["com.microsoft.FusedMatMul"] = fusedMatmul;
    rules["com.microsoft.MatMulNBits"] = matmulNBits;
    rules["Gemm"] = gemm;
    rules["com.microsoft.FusedGemm"] = gemm;
    rules["com.microsoft.QGemm"] = [](NodeShapes& s) {
        Shape b = s.shape(3);
        if (s.node().attributeInt("transB", 0) != 0) swapLast(b);
        s.set(0, matmulShape(s.shape(0), b));
    };
    rules["Conv"] = [](NodeShapes& s) { conv(s, 1); };
    rules["ConvInteger"] = [](NodeShapes& s) { conv(s, 1); };
    rules["com.microsoft.FusedConv"] = [](NodeShapes& s) { conv(s, 1); };
    rules["QLinearConv"] = [](NodeShapes& s) { conv(s, 3); };
    rules["ConvTranspose"] = convTranspose;
    rules["AveragePool"] = pool;
    rules["MaxPool"] = pool;
    rules["LpPool"] = pool;
    for (const char* name : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}) rules[name] = globalPool;
    rules["Einsum"] = einsum;
    for (const char* name : {"LSTM", "GRU", "RNN"}) rules[name] = recurrent;
}

}  // namespace tcompress::analysis
