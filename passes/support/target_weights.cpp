#include "passes/support/target_weights.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "lib/analysis/sparse_storage.h"
#include "lib/analysis/targets.h"

namespace tcompress::passes {
namespace {

/// The constant that a site's weight comes from, and which of its axes the site sums over.
struct Source {
    ir::Value* constant = nullptr;
    std::size_t inAxis = 0;
    std::size_t outAxis = 1;
    std::string refusal;
};

constexpr std::int64_t kFewestCodes = 64;

bool swapsTwoAxes(const ir::Node& transpose) {
    const auto permutation = transpose.attributeInts("perm");
    return !permutation || *permutation == std::vector<std::int64_t>{1, 0};
}

/// Whether a value is made of constants alone, among them integers enough to be the codes of weights.
bool isUnpacked(const ir::Node& node) {
    std::vector<const ir::Node*> open{&node};
    std::set<const ir::Node*> seen;
    bool hasCodes = false;
    while (!open.empty()) {
        const ir::Node* at = open.back();
        open.pop_back();
        if (!seen.insert(at).second) continue;
        for (const ir::Value* input : at->inputs()) {
            if (input == nullptr) continue;
            if (const Tensor* constant = input->constant())
                hasCodes =
                    hasCodes || (isInteger(constant->dtype()) && bitsPerElement(constant->dtype()) <= 8 &&
                                 constant->size() >= kFewestCodes);
            else if (input->producer() == nullptr)
                return false;
            else
                open.push_back(input->producer());
        }
    }
    return hasCodes;
}

std::string computedReason(const ir::Node& node) {
    if (node.output() != nullptr && analysis::sparseStorageBehind(node.output()))
        return "its zeros are packed already; put store-sparse behind this pass";
    if (node.is("DequantizeLinear") || node.is("com.microsoft", "DequantizeLinear"))
        return fmt::format("already quantized: its weight comes from {} '{}'", node.opType(), node.label());
    if (node.is("Cast") && node.input(0) != nullptr)
        return fmt::format("its weight is stored as {} already (Cast '{}')", name(node.input(0)->dtype()),
                           node.label());
    if (isUnpacked(node))
        return fmt::format("already quantized: its weight is unpacked from integers by {} '{}'",
                           node.opType(), node.label());
    return fmt::format("its weight is computed by {} '{}'", node.opType(), node.label());
}

/// The stored constant, when only Identity and the transposition of a matrix lie between it and the node.
Source sourceOf(const analysis::Site& site) {
    Source source;
    source.inAxis = isEmbedding(site) ? site.outAxis : site.inAxis;
    source.outAxis = isEmbedding(site) ? site.inAxis : site.outAxis;
    const ir::Value* value = site.operand;
    while (value->constant() == nullptr) {
        const ir::Node* producer = value->producer();
        if (producer == nullptr) {
            source.refusal = fmt::format("its weight '{}' is an input of the model", value->name());
            return source;
        }
        const auto shape = value->shape();
        const bool transposes =
            producer->is("Transpose") && shape && shape->size() == 2 && swapsTwoAxes(*producer);
        if (!transposes && !producer->is("Identity")) {
            source.refusal = computedReason(*producer);
            return source;
        }
        value = producer->input(0);
    }
    source.constant = site.weight;
    return source;
}

std::string typeRefusal(const ir::Value& constant) {
    const DType type = constant.dtype();
    if (type == DType::float32) return {};
    if (isInteger(type)) return fmt::format("already quantized: its weight is {}", name(type));
    return fmt::format("its weight is {}, and only float32 weights are handled", name(type));
}

/// Why the data of a constant cannot be replaced by other data; empty when they can.
std::string dataRefusal(const Source& source, const std::set<const ir::Node*>& siteNodes,
                        std::int64_t fewestValues) {
    const ir::Value& constant = *source.constant;
    if (std::string reason = typeRefusal(constant); !reason.empty()) return reason;
    const Tensor& tensor = *constant.constant();
    if (tensor.size() < fewestValues)
        return fmt::format("its {} values are too few to gain from it", tensor.size());
    for (const ir::Use& use : constant.uses()) {
        if (use.kind == ir::UseKind::captured) return "its weight is used inside a sub-graph";
        if (use.kind == ir::UseKind::graphOutput) return "its weight is an output of the model";
        if (!siteNodes.contains(use.node) && !use.node->is("Transpose") && !use.node->is("Identity"))
            return fmt::format("its weight is also read by {} '{}'", use.node->opType(), use.node->label());
    }
    return {};
}

}  // namespace

bool TargetWeight::hasEmbedding() const {
    return std::any_of(sites.begin(), sites.end(), [](const auto* site) { return isEmbedding(*site); });
}

bool TargetWeight::hasLinear() const {
    return std::any_of(sites.begin(), sites.end(), [](const auto* site) { return !isEmbedding(*site); });
}

bool isEmbedding(const analysis::Site& site) {
    return site.node->is("Gather") || site.node->is("com.microsoft", "EmbedLayerNormalization");
}

std::vector<TargetWeight> targetWeights(const analysis::TransformerView& view, const WeightQuery& query,
                                        pipeline::PassReport& report) {
    const std::vector<std::size_t> chosen = analysis::SitePatterns(query.targets, query.ignore).select(view);
    const std::set<std::size_t> isChosen(chosen.begin(), chosen.end());
    const bool leavesTablesOut = query.tables == WeightQuery::Tables::whenNamed && query.targets.empty();
    std::unordered_map<const ir::Value*, std::string> usedElsewhere;
    std::set<const ir::Node*> siteNodes;
    for (std::size_t i = 0; i < view.sites.size(); ++i) {
        siteNodes.insert(view.sites[i].node);
        if (isChosen.contains(i) && !(leavesTablesOut && isEmbedding(view.sites[i]))) continue;
        if (const Source source = sourceOf(view.sites[i]); source.constant != nullptr)
            usedElsewhere.emplace(source.constant, view.sites[i].name);
    }
    std::vector<TargetWeight> weights;
    std::unordered_map<const ir::Value*, std::size_t> known;
    for (const std::size_t index : chosen) {
        const analysis::Site& site = view.sites[index];
        Source source = sourceOf(site);
        if (leavesTablesOut && isEmbedding(site)) {
            report.skipped.push_back({site.name, "an embedding table; name it in targets to include it"});
            continue;
        }
        if (source.constant != nullptr) {
            source.refusal = dataRefusal(source, siteNodes,
                                         isEmbedding(site) ? query.fewestTableValues : query.fewestValues);
            if (source.refusal.empty() && isEmbedding(site) && site.outFeatures == 1)
                source.refusal = "its rows hold one value each";
            const auto elsewhere = usedElsewhere.find(source.constant);
            if (source.refusal.empty() && elsewhere != usedElsewhere.end())
                source.refusal = fmt::format("its weight is shared with '{}', which the patterns leave out",
                                             elsewhere->second);
        }
        if (!source.refusal.empty()) {
            report.skipped.push_back({site.name, source.refusal});
            continue;
        }
        const auto [found, isNew] = known.try_emplace(source.constant, weights.size());
        if (isNew) {
            weights.push_back({source.constant, {&site}, source.inAxis, source.outAxis});
        } else if (weights[found->second].inAxis != source.inAxis) {
            report.skipped.push_back(
                {site.name, fmt::format("its weight is shared with '{}', which sums over the other axis",
                                        weights[found->second].name())});
        } else {
            weights[found->second].sites.push_back(&site);
        }
    }
    return weights;
}

void skip(pipeline::PassReport& report, const TargetWeight& weight, const std::string& reason) {
    for (const analysis::Site* site : weight.sites) report.skipped.push_back({site->name, reason});
}

std::string describe(const Tensor& tensor) {
    return fmt::format("{} {}", name(tensor.dtype()), toString(tensor.shape()));
}

}  // namespace tcompress::passes
