#include "passes/low_rank/factor_products.h"

#include <fmt/core.h>

#include "lib/ir/emit.h"

namespace tcompress::passes {

using analysis::Site;

std::string factorRefusal(const Site& site) {
    const ir::Node& node = *site.node;
    if (isEmbedding(site))
        return node.is("Gather") ? std::string() : fmt::format("{} looks its rows up inside", node.opType());
    if (!node.is("MatMul") && !node.is("Gemm")) return fmt::format("{} is not factorised", node.opType());
    if (site.input != node.input(0)) return "its weight is the left operand";
    return {};
}

std::string factorSizeRefusal(std::int64_t m, std::int64_t n, std::int64_t rank) {
    const std::int64_t factors = rank * (m + n);
    if (factors < m * n) return {};
    return fmt::format("rank {} would take {} parameters, and the matrix has {}", rank, factors, m * n);
}

namespace {

/// The site keeps its name and its bias and gets the second factor; a product of the same kind goes before.
void rewriteProduct(ir::Edit& edit, const Site& site, ir::Value* first, ir::Value* second) {
    ir::Node& node = *site.node;
    std::vector<ir::Attribute> attributes;
    if (const std::int64_t transposed = node.attributeInt("transA", 0); transposed != 0) {
        attributes.push_back({"transA", transposed});
        edit.removeAttribute(&node, "transA");
    }
    if (node.attribute("transB") != nullptr) edit.removeAttribute(&node, "transB");
    // node.input(0), not site.input: nothing else in this edit replaces it.
    ir::Value* inner =
        emit(edit, node.opType(), {node.input(0), first}, std::move(attributes), site.name + "/low_rank");
    edit.replaceInput(&node, 0, inner);
    edit.replaceInput(&node, 1, second);
}

void rewriteLookup(ir::Edit& edit, const Site& site, ir::Value* rows, ir::Value* basis) {
    edit.replaceInput(site.node, 0, rows);
    ir::Value* result = emit(edit, "MatMul", {site.output, basis});
    edit.replaceAllUses(site.output, result, {result->producer()});
}

}  // namespace

void replaceByFactors(ir::Edit& edit, const TargetWeight& weight, Tensor left, Tensor right) {
    const std::string& name = weight.constant->name();
    if (weight.hasEmbedding()) {
        ir::Value* rows = edit.addInitializer(name + "_rows", std::move(left));
        ir::Value* basis = edit.addInitializer(name + "_basis", std::move(right));
        for (const Site* site : weight.sites) rewriteLookup(edit, *site, rows, basis);
        return;
    }
    // Stored [in, out], x · W = (x · left) · right; stored [out, in], it is (x · rightᵀ) · leftᵀ.
    const bool stored = weight.inAxis == 0;
    ir::Value* first = edit.addInitializer(name + "_in", stored ? left : transpose(right, {1, 0}));
    ir::Value* second = edit.addInitializer(name + "_out", stored ? right : transpose(left, {1, 0}));
    for (const Site* site : weight.sites) rewriteProduct(edit, *site, first, second);
}

}  // namespace tcompress::passes
