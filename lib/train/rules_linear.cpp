// Products of matrices.

#include <map>
#include <string_view>

#include "lib/train/rules.h"

namespace tcompress::train {
namespace {

/// A stack of matrices as one with all its rows.
ir::Value* stacked(NodeGradient& g, ir::Value* value, const ir::Value* like) {
    return g.emit("Reshape", {value, g.integers({-1, g.shapeOf(like).back()})});
}

/// Y = op(A)·op(B): of matrices, or of stacks of them that may be repeated.
void products(NodeGradient& g, bool transposeA, bool transposeB, float scale) {
    ir::Value *const a = g.x(0), *const b = g.x(1), *const dy = g.dy();
    if (g.wants(0))
        g.addBroadcast(0, transposeA ? g.product(b, transposeB, dy, true, scale) : g.product(dy, false, b, !transposeB, scale));
    if (!g.wants(1)) return;
    if (g.rankOf(a) > 2 && g.rankOf(b) == 2 && !transposeA) {
        // One product over the rows of all the stack instead of a sum of as many.
        ir::Value *const rows = stacked(g, a, a), *const d = stacked(g, dy, g.y());
        g.add(1, transposeB ? g.product(d, true, rows, false, scale) : g.product(rows, true, d, false, scale));
        return;
    }
    g.addBroadcast(1, transposeB ? g.product(dy, true, a, transposeA, scale) : g.product(a, !transposeA, dy, false, scale));
}

void matmul(NodeGradient& g) { products(g, false, false, 1); }

void fusedMatmul(NodeGradient& g) {
    products(g, g.node().attributeInt("transA", 0) != 0, g.node().attributeInt("transB", 0) != 0, g.node().attributeFloat("alpha", 1));
}

void gemm(NodeGradient& g) {
    products(g, g.node().attributeInt("transA", 0) != 0, g.node().attributeInt("transB", 0) != 0, g.node().attributeFloat("alpha", 1));
    if (g.wants(2)) g.addBroadcast(2, g.emit("Mul", {g.dy(), g.number(g.node().attributeFloat("beta", 1))}));
}

bool areMatrices(const ir::Node& node, const SeenValues& seen) {
    for (const ir::Value* operand : {node.input(0), node.input(1)}) {
        if (operand == nullptr) return false;
        const auto found = seen.find(operand->name());
        const Tensor* constant = operand->initialValue();
        if (found == seen.end() && constant == nullptr) return false;
        if ((found != seen.end() ? found->second.shape : constant->shape()).size() < 2) return false;
    }
    return true;
}

}  // namespace

Rule linearRule(const ir::Node& node, const SeenValues& seen) {
    if (!areMatrices(node, seen)) return nullptr;
    if (node.is("MatMul")) return matmul;
    if (node.is("Gemm")) return gemm;
    const bool isPlain = node.attributeInt("transBatchA", 0) == 0 && node.attributeInt("transBatchB", 0) == 0;
    return node.is("com.microsoft", "FusedMatMul") && isPlain ? fusedMatmul : nullptr;
}

}  // namespace tcompress::train
