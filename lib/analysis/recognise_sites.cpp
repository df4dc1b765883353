// Sites: where weights live. Listed before anything is recognised, so that a model that is no Transformer has
// them too; roles come from the layers found afterwards.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "lib/analysis/macs.h"
#include "lib/analysis/view_builder.h"

namespace tcompress::analysis {

namespace {

constexpr std::int64_t kReferenceLength = 128;

/// The stored tensor behind an operand and where each axis of the operand lies in it.
struct WeightPath {
    ir::Value* weight = nullptr;
    std::vector<std::size_t> axes;
};

WeightPath traceWeight(ir::Value* operand, std::size_t rank) {
    WeightPath path{operand, std::vector<std::size_t>(rank)};
    std::iota(path.axes.begin(), path.axes.end(), 0);
    const WeightPath unstored = path;
    while (path.weight->constant() == nullptr) {
        const ir::Node* node = path.weight->producer();
        if (node == nullptr || node->input(0) == nullptr) return unstored;
        if (node->is("Transpose")) {
            std::vector<std::int64_t> perm(rank);
            std::iota(perm.rbegin(), perm.rend(), 0);
            if (auto given = node->attributeInts("perm")) perm = *given;
            std::vector<std::int64_t> sorted = perm, all(rank);
            std::sort(sorted.begin(), sorted.end());
            std::iota(all.begin(), all.end(), 0);
            if (sorted != all) return unstored;
            for (std::size_t& axis : path.axes) axis = static_cast<std::size_t>(perm[axis]);
        } else if (!(node->is("Identity") || node->is("Cast") || node->is("DequantizeLinear") ||
                     node->is("QuantizeLinear") || node->is("com.microsoft", "DequantizeLinear"))) {
            // Computed from other constants: only a stored matrix of the same shape has the operand's axes.
            ir::Value* stored = storedTensor(path.weight);
            const auto shape = path.weight->shape();
            const bool same = stored != nullptr && shape && stored->constant()->shape() == *shape;
            return same ? WeightPath{stored, path.axes} : unstored;
        }
        path.weight = node->input(0);
    }
    return path.weight->constant()->shape().size() == rank ? path : unstored;
}

/// Contracted and free axis of a linear node's constant operand.
std::pair<std::size_t, std::size_t> operandAxes(const ir::Node& node, bool weightFirst, std::size_t rank) {
    const auto last = rank - 1, before = rank >= 2 ? rank - 2 : 0;
    if (node.opType().rfind("Conv", 0) == 0) return {1, 0};
    if (node.is("com.microsoft", "MatMulNBits")) return {1, 0};
    const bool transposed = node.attributeInt(weightFirst ? "transA" : "transB", 0) != 0;
    // As the second operand the weight is [K, N]; as the first it is [M, K].
    return weightFirst != transposed ? std::pair{last, before} : std::pair{before, last};
}

ir::Value* constantBehind(ir::Value* value) {
    while (value != nullptr && value->constant() == nullptr) {
        const ir::Node* node = value->producer();
        if (node == nullptr || !(node->is("Identity") || node->is("Cast"))) return nullptr;
        value = node->input(0);
    }
    return value;
}

/// Which input of a node that reads a product at `dataInput` may hold its bias.
std::optional<std::size_t> biasInputOf(const ir::Node& node, std::size_t dataInput) {
    if (node.is("Add") && dataInput < 2) return 1 - dataInput;
    if (node.domain() != "com.microsoft" || dataInput > 1) return {};
    if (node.opType() == "BiasGelu" || node.opType() == "FastGelu") return 1;
    if (node.opType() == "SkipLayerNormalization" || node.opType() == "SkipSimplifiedLayerNormalization") {
        return node.opType() == "SkipLayerNormalization" ? 4 : 3;
    }
    return {};
}

bool isQuantizedType(DType type) {
    return type == DType::int8 || type == DType::uint8 || type == DType::int4 || type == DType::uint4 ||
           type == DType::int2 || type == DType::uint2;
}

}  // namespace

void ViewBuilder::listSites() {
    const ReferenceShapes reference = referenceShapes(model_, kReferenceLength);
    struct Listed {
        Site site;
        std::ptrdiff_t linear;
    };
    std::vector<Listed> listed;
    for (std::size_t i = 0; i < axes_->linears.size(); ++i) {
        const LinearContraction& linear = axes_->linears[i];
        const std::vector<Axis>* operand = axes_->of(linear.weight);
        const std::size_t rank = operand == nullptr ? 2 : operand->size();
        const WeightPath path = traceWeight(linear.weight, rank);
        const auto [in, out] = operandAxes(*linear.node, linear.weight == linear.node->input(0), rank);
        Site site;
        site.name = linear.node->label();
        site.node = linear.node;
        site.weight = path.weight;
        site.operand = linear.weight;
        site.input = linear.input;
        site.output = linear.output;
        site.inAxis = path.axes.at(in);
        site.outAxis = path.axes.at(out);
        site.inFeatures = store_.size(linear.in);
        site.outFeatures = store_.size(linear.out);
        if (linear.node->opType().rfind("Conv", 0) == 0) {
            const auto kernel = axes_->shapes.shape(*linear.weight);
            for (std::size_t k = 2; kernel && k < kernel->size(); ++k) site.inFeatures *= (*kernel)[k];
        }
        site.macs = linearMacs(*axes_, linear, reference.shapes);
        findBias(site, linearOut_[i]);
        listed.push_back({std::move(site), static_cast<std::ptrdiff_t>(i)});
    }
    for (const auto& node : model_.graph().nodes()) {
        for (Site& site : embeddingSites(*node)) listed.push_back({std::move(site), -1});
    }
    std::stable_sort(listed.begin(), listed.end(), [](const Listed& a, const Listed& b) {
        return a.site.node->position() < b.site.node->position();
    });
    siteOfLinear_.assign(axes_->linears.size(), 0);
    for (Listed& entry : listed) {
        if (entry.linear >= 0) siteOfLinear_[static_cast<std::size_t>(entry.linear)] = view_.sites.size();
        view_.sites.push_back(std::move(entry.site));
    }
}

void ViewBuilder::findBias(Site& site, const LeafSet& out) const {
    const ir::Node& node = *site.node;
    const bool packed = fusedNodes_.count(&node) != 0;
    if (node.is("Gemm") || node.is("Conv") || packed) {
        site.bias = constantBehind(node.input(2));
        return;
    }
    // Behind an integer product come a cast and the scales, then the bias.
    const ir::Value* at = site.output;
    while (at->uses().size() == 1 && at->uses()[0].node != nullptr &&
           at->uses()[0].kind == ir::UseKind::input) {
        ir::Node* next = at->uses()[0].node;
        if (const auto biasInput = biasInputOf(*next, at->uses()[0].index)) {
            const ir::Value* operand = next->input(*biasInput);
            ir::Value* bias = constantBehind(next->input(*biasInput));
            if (bias == nullptr || bias->constant()->size() != site.outFeatures) return;
            const auto shared = axes_->sharedVectorAxes.find({next, *biasInput});
            const std::vector<Axis>* own =
                shared != axes_->sharedVectorAxes.end() ? &shared->second : axes_->of(operand);
            if (own == nullptr || own->empty() || !intersects(leavesOf(own->back()), out)) return;
            site.bias = bias;
            site.biasNode = next;
            return;
        }
        // Nor do a quantization and its inverse change which layer it is.
        if (!next->is("Cast") && !next->is("QuantizeLinear") && !next->is("DequantizeLinear") &&
            !(next->is("Mul") && (site.node->is("MatMulInteger") || site.node->is("ConvInteger"))))
            return;
        at = next->output();
    }
}

std::vector<Site> ViewBuilder::embeddingSites(ir::Node& node) const {
    std::vector<Site> sites;
    const auto add = [&](std::size_t table, std::size_t indices) {
        ir::Value* operand = node.input(table);
        if (operand == nullptr || node.output() == nullptr || !axes_->constant(operand) ||
            axes_->constant(node.output()))
            return;
        const std::vector<Axis>* axes = axes_->of(operand);
        if (axes == nullptr || axes->size() != 2) return;
        const WeightPath path = traceWeight(operand, 2);
        if (path.weight->constant() == nullptr) return;
        const DType type = path.weight->constant()->dtype();
        if (!isFloatingPoint(type) && !isQuantizedType(type)) return;
        Site site;
        site.name =
            node.is("Gather") ? node.label() : fmt::format("{}/{}", node.label(), path.weight->name());
        site.node = &node;
        site.weight = path.weight;
        site.operand = operand;
        site.input = node.input(indices);
        site.output = node.output();
        site.inAxis = path.axes[0];
        site.outAxis = path.axes[1];
        site.inFeatures = store_.size((*axes)[0]);
        site.outFeatures = store_.size((*axes)[1]);
        const bool intoStream = intersects(leavesOf((*axes)[1]), residual_);
        site.role = intoStream || residual_.empty() ? SiteRole::embedding : SiteRole::other;
        sites.push_back(std::move(site));
    };
    if (node.is("Gather") && node.attributeInt("axis", 0) == 0) add(0, 1);
    if (node.is("com.microsoft", "EmbedLayerNormalization")) {
        add(2, 0);
        add(3, 7);
        add(4, 1);
    }
    return sites;
}

void ViewBuilder::assignRoles() {
    const auto assign = [&](const std::vector<std::size_t>& sites, SiteRole role) {
        for (std::size_t i : sites) view_.sites[i].role = role;
    };
    for (const AttentionLayer& layer : view_.attention) {
        assign(layer.q, SiteRole::attentionQ);
        assign(layer.k, SiteRole::attentionK);
        assign(layer.v, SiteRole::attentionV);
        assign(layer.o, SiteRole::attentionO);
        std::vector<std::size_t> all = layer.q;
        all.insert(all.end(), layer.k.begin(), layer.k.end());
        all.insert(all.end(), layer.v.begin(), layer.v.end());
        for (std::size_t i : all) {
            if (std::count(all.begin(), all.end(), i) > 1) view_.sites[i].role = SiteRole::attentionQkv;
        }
    }
    for (const FeedForward& layer : view_.feedForward) {
        assign(layer.up, layer.gated && layer.up.size() == 1 ? SiteRole::ffnUpGate : SiteRole::ffnUp);
        assign(layer.gate, SiteRole::ffnGate);
        assign(layer.down, SiteRole::ffnDown);
    }
    for (std::size_t b = 0; b < view_.blocks.size(); ++b) {
        const auto place = [&](const std::vector<std::size_t>& sites) {
            for (std::size_t i : sites) view_.sites[i].block = static_cast<int>(b);
        };
        for (std::size_t i : view_.blocks[b].attention) {
            const AttentionLayer& layer = view_.attention[i];
            for (const auto* sites : {&layer.q, &layer.k, &layer.v, &layer.o}) place(*sites);
        }
        for (std::size_t i : view_.blocks[b].feedForward) {
            for (const auto* sites : {&view_.feedForward[i].up, &view_.feedForward[i].down}) place(*sites);
        }
    }
    // All factors of a layer have its role.
    for (std::size_t i = 0; i < axes_->linears.size(); ++i) {
        const Site own = view_.sites[siteOfLinear_[i]];
        if (own.role == SiteRole::other) continue;
        for (const auto* next : {&factorBefore_, &factorBehind_}) {
            for (std::optional<std::size_t> at = (*next)[i]; at; at = (*next)[*at]) {
                Site& factor = view_.sites[siteOfLinear_[*at]];
                if (factor.role != SiteRole::other) break;
                factor.role = own.role;
                factor.block = own.block;
            }
        }
    }
    assignOuterRoles();
}

// Before the first block a layer that makes the stream from an input is a patch embedding; behind the last
// block the last layer before a graph output is a classifier, and what feeds it a pooler.
void ViewBuilder::assignOuterRoles() {
    std::size_t first = SIZE_MAX, last = 0;
    const auto cover = [&](const ir::Node* node) {
        if (node == nullptr) return;
        first = std::min(first, node->position());
        last = std::max(last, node->position());
    };
    for (const AttentionLayer& layer : view_.attention) cover(layer.residualAdd);
    for (const FeedForward& layer : view_.feedForward) cover(layer.residualAdd);
    if (first == SIZE_MAX) return;
    ValueSet behindProducts;
    for (const auto& node : model_.graph().nodes()) {
        const bool behind =
            isProduct(*node) || std::any_of(node->inputs().begin(), node->inputs().end(),
                                            [&](const ir::Value* v) { return behindProducts.count(v) != 0; });
        if (!behind) continue;
        for (const ir::Value* output : node->outputs()) behindProducts.insert(output);
    }
    for (std::size_t i = 0; i < axes_->linears.size(); ++i) {
        Site& site = view_.sites[siteOfLinear_[i]];
        if (site.role != SiteRole::other) continue;
        if (site.node->position() > last) {
            if (site.node->opType().rfind("Conv", 0) == 0) continue;
            const ir::Value* made = axes_->linears[lastFactor(i)].output;
            site.role = reachesOutput(made) ? SiteRole::classifier : SiteRole::pooler;
        } else if (site.node->position() < first && intersects(linearOut_[i], residual_) &&
                   behindProducts.count(site.input) == 0) {
            site.role = SiteRole::patchEmbedding;
        }
    }
}

bool ViewBuilder::reachesOutput(const ir::Value* value) const {
    ValueSet seen;
    std::vector<const ir::Value*> open{value};
    while (!open.empty()) {
        const ir::Value* at = open.back();
        open.pop_back();
        if (!seen.insert(at).second) continue;
        if (at->isGraphOutput()) return true;
        for (const ir::Use& use : at->uses()) {
            if (use.node == nullptr || isProduct(*use.node) || use.node->is("Shape")) continue;
            for (const ir::Value* output : use.node->outputs()) {
                if (output != nullptr) open.push_back(output);
            }
        }
    }
    return false;
}

}  // namespace tcompress::analysis
