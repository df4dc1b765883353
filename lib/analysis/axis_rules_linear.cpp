// Products: contracted and batch axes are the same axis in both operands.

#include <algorithm>
#include <map>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/einsum.h"

namespace tcompress::analysis {

namespace {

enum class Transposed { no, yes };

void swapLast(std::vector<Axis>& axes) {
    if (axes.size() < 2) throw NotUnderstood("a matrix expected");
    std::swap(axes[axes.size() - 1], axes[axes.size() - 2]);
}

void matmul(NodeAxes& n, std::size_t inputA, std::size_t inputB, Transposed transA = Transposed::no,
            Transposed transB = Transposed::no) {
    std::vector<Axis> a = n.axes(inputA);
    std::vector<Axis> b = n.axes(inputB);
    if (a.empty() || b.empty()) throw NotUnderstood("a product of scalars");
    const bool vectorA = a.size() == 1;
    const bool vectorB = b.size() == 1;
    if (vectorA) a.insert(a.begin(), Axis{});
    if (vectorB) b.emplace_back();
    if (transA == Transposed::yes) swapLast(a);
    if (transB == Transposed::yes) swapLast(b);
    const Axis contracted = a.back();
    n.unify(contracted, b[b.size() - 2]);
    const std::size_t rank = std::max(a.size(), b.size()) - 2;
    std::vector<Axis> out;
    for (std::size_t j = 0; j < rank; ++j) {
        const std::size_t missingA = rank - (a.size() - 2);
        const std::size_t missingB = rank - (b.size() - 2);
        const Axis fromA = j < missingA ? Axis{} : a[j - missingA];
        const Axis fromB = j < missingB ? Axis{} : b[j - missingB];
        if (!fromA.empty() && !fromB.empty()) n.unify(fromA, fromB);
        out.push_back(fromA.empty() ? fromB : fromA);
    }
    const std::vector<Axis> batch = out;
    const Axis freeA = a[a.size() - 2];
    const Axis freeB = b.back();
    if (!vectorA) out.push_back(freeA);
    if (!vectorB) out.push_back(freeB);
    n.set(0, std::move(out));
    n.product({inputA, inputB, contracted, freeA, freeB, batch});
}

Transposed flag(const NodeAxes& n, const char* attribute) {
    return n.node().attributeInt(attribute, 0) != 0 ? Transposed::yes : Transposed::no;
}

/// Axes of the node's first output, copied: later unions do not invalidate them.
std::vector<Axis> matrixOutput(NodeAxes& n, const Axis& rows, const Axis& columns) {
    std::vector<Axis> out{rows, columns};
    n.set(0, out);
    return out;
}

void gemm(NodeAxes& n) {
    std::vector<Axis> a = n.axes(0), b = n.axes(1);
    if (a.size() != 2 || b.size() != 2) throw NotUnderstood("Gemm of other than matrices");
    if (flag(n, "transA") == Transposed::yes) swapLast(a);
    if (flag(n, "transB") == Transposed::yes) swapLast(b);
    n.unify(a[1], b[0]);
    const std::vector<Axis> out = matrixOutput(n, a[0], b[1]);
    n.product({0, 1, a[1], a[0], b[1], {}});
    n.unifyTrailing(2, out);
}

// A zero point or scale per column of B, as a vector.
void perColumn(NodeAxes& n, std::size_t input, const Axis& columns) {
    if (!n.has(input) || n.axes(input).empty()) return;
    const Axis own = n.axes(input).back();
    if (!own.empty()) n.unify(own, columns);
}

void quantizedMatmul(NodeAxes& n, std::size_t inputA, std::size_t inputB,
                     const std::vector<std::size_t>& columnInputs) {
    matmul(n, inputA, inputB);
    const Axis columns = n.axes(inputB).back();
    for (std::size_t input : columnInputs) perColumn(n, input, columns);
}

// Depthwise convolutions keep their channels apart and may lose some; other grouped ones may not.
void conv(NodeAxes& n, std::size_t weightInput, std::size_t biasInput) {
    const std::vector<Axis> x = n.axes(0), weight = n.axes(weightInput);
    const Shape& kernel = n.shape(weightInput);
    const Shape& in = n.shape(0);
    const Shape& out = n.outputShape(0);
    if (x.size() != weight.size() || x.size() < 3 || out.size() != x.size())
        throw NotUnderstood("convolution of other ranks");
    const std::int64_t groups = n.node().attributeInt("group", 1);
    if (groups == 1) {
        n.unify(x[1], weight[1]);
    } else {
        auto [inGroups, inRest] = n.store().take(x[1], groups);
        auto [outGroups, outRest] = n.store().take(weight[0], groups);
        n.unify(inGroups, outGroups);
        n.unify(inRest, weight[1]);
        if (!inRest.empty() || !outRest.empty()) n.freeze(inGroups, "grouped");
    }
    std::vector<Axis> axes{x[0], weight[0]};
    for (std::size_t j = 2; j < x.size(); ++j) {
        if (kernel[j] == 1 && in[j] == out[j]) {
            axes.push_back(x[j]);
        } else {
            n.event(EventKind::spatial, x[j]);
            axes.push_back(n.store().axis(out[j]));
        }
    }
    n.set(0, std::move(axes));
    if (biasInput != 0 && n.has(biasInput)) n.unify(n.lastAxis(biasInput), weight[0]);
    if (groups == 1) n.product({0, weightInput, x[1], x[0], weight[0], {}});
}

void einsum(NodeAxes& n) {
    const auto equation = parseEinsum(n.node().attributeString("equation", ""));
    if (!equation || equation->inputs.size() != n.node().inputs().size()) throw NotUnderstood("its equation");
    std::map<char, Axis> letters;
    for (std::size_t i = 0; i < equation->inputs.size(); ++i) {
        if (n.axes(i).size() != equation->inputs[i].size()) throw NotUnderstood("an equation of other ranks");
        for (std::size_t k = 0; k < equation->inputs[i].size(); ++k) {
            const Axis own = n.axes(i)[k];
            Axis& known = letters[equation->inputs[i][k]];
            if (!own.empty() && !known.empty()) n.unify(known, own);
            if (known.empty()) known = own;
        }
    }
    std::vector<Axis> out;
    for (char c : equation->output) out.push_back(letters.at(c));
    n.set(0, std::move(out));
    const auto in = [](const std::string& term, char c) { return term.find(c) != std::string::npos; };
    if (equation->inputs.size() != 2) {
        for (const auto& [c, axis] : letters) {
            if (!in(equation->output, c)) n.event(EventKind::reduce, axis);
        }
        return;
    }
    NodeAxes::Product product{0, 1, {}, {}, {}, {}};
    const std::string& a = equation->inputs[0];
    const std::string& b = equation->inputs[1];
    const auto append = [&](Axis& target, char c) {
        target.insert(target.end(), letters.at(c).begin(), letters.at(c).end());
    };
    // The contracted axis lists its letters in the constant operand's order, so that it is that operand's
    // flattened axis.
    for (char c : n.isConstant(1) ? b : a) {
        if (in(a, c) && in(b, c) && !in(equation->output, c)) append(product.contracted, c);
    }
    for (char c : a) {
        if (!in(b, c)) append(product.freeA, c);
    }
    for (char c : b) {
        if (!in(a, c)) append(product.freeB, c);
    }
    for (char c : equation->output) {
        if (in(a, c) && in(b, c)) product.batch.push_back(letters.at(c));
    }
    if (!a.empty() && !b.empty()) n.product(product);
}

// Weights packed in blocks along K: whole blocks could go, but the packed layout is not cut here.
void matmulNBits(NodeAxes& n) {
    const std::vector<Axis> x = n.axes(0);
    const Axis inner = n.lastAxis(0);
    if (n.shape(1).size() < 2) throw NotUnderstood("a packed matrix expected");
    const Axis columns = n.store().axis(n.outputOfSameRank().back());
    n.freeze(inner, "packed in blocks");
    n.freeze(columns, "packed in blocks");
    for (std::size_t i = 1; i < n.node().inputs().size(); ++i) n.freezeInput(i, "packed in blocks");
    std::vector<Axis> out(x.begin(), x.end() - 1);
    out.push_back(columns);
    n.set(0, std::move(out));
    n.product({0, 1, inner, {}, columns, {}});
}

}  // namespace

void addLinearAxisRules(AxisRules& rules) {
    rules["MatMul"] = [](NodeAxes& n) { matmul(n, 0, 1); };
    rules["com.microsoft.FusedMatMul"] = [](NodeAxes& n) {
        matmul(n, 0, 1, flag(n, "transA"), flag(n, "transB"));
    };
    rules["MatMulInteger"] = [](NodeAxes& n) { quantizedMatmul(n, 0, 1, {3}); };
    rules["com.microsoft.MatMulIntegerToFloat"] = [](NodeAxes& n) { quantizedMatmul(n, 0, 1, {3, 5, 6}); };
    rules["com.microsoft.DynamicQuantizeMatMul"] = [](NodeAxes& n) {
        n.event(EventKind::dynamicQuantization, n.lastAxis(0));
        quantizedMatmul(n, 0, 1, {2, 3, 4});
    };
    rules["QLinearMatMul"] = [](NodeAxes& n) { quantizedMatmul(n, 0, 3, {4, 5}); };
    rules["com.microsoft.MatMulNBits"] = matmulNBits;
    rules["Gemm"] = gemm;
    rules["com.microsoft.FusedGemm"] = gemm;
    rules["Conv"] = [](NodeAxes& n) { conv(n, 1, 2); };
    rules["ConvInteger"] = [](NodeAxes& n) { conv(n, 1, 0); };
    rules["Einsum"] = einsum;
}

}  // namespace tcompress::analysis
