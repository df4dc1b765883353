#include "passes/quantize/mixed/choice_bytes.h"

#include <vector>

#include "lib/ir/edit.h"
#include "lib/ir/export.h"

namespace tcompress::passes {
namespace {

using pipeline::PassReport;

/// Operands that layers share (shapes, shifts, offsets) are smaller, without their names.
constexpr std::size_t kSharedBytes = 72;

/// Bytes of nodes and constants, without small constants and descriptions of values.
std::int64_t partBytes(const ir::Model& model) {
    ir::Export exported = ir::exportModel(model);
    onnx::GraphProto& graph = *exported.proto.mutable_graph();
    std::int64_t bytes = 0;
    for (const auto& [place, payload] : exported.payloads.initializers)
        bytes += static_cast<std::int64_t>(payload.bytes.size());
    for (const auto& [place, payload] : exported.payloads.attributes)
        bytes += static_cast<std::int64_t>(payload.bytes.size());
    for (int i = 0; i < graph.initializer_size(); ++i) {
        const std::size_t size = graph.initializer(i).ByteSizeLong();
        const bool isShared = !exported.payloads.initializers.contains(i) &&
                              size < kSharedBytes + graph.initializer(i).name().size();
        if (!isShared) bytes += static_cast<std::int64_t>(size);
    }
    for (const onnx::NodeProto& node : graph.node()) bytes += static_cast<std::int64_t>(node.ByteSizeLong());
    return bytes;
}

}  // namespace

ChoiceBytes::ChoiceBytes(const ir::Model& model, const std::string& pass)
    : model_(model), pass_(pass), before_(partBytes(model)) {}

std::int64_t ChoiceBytes::of(const TargetWeight& weight, const WeightStorage& storage) {
    const Key key{&storage, weight.constant->constant()->shape(), weight.inAxis, weight.sites.size(),
                  std::string(weight.sites.front()->node->opType())};
    const auto known = known_.find(key);
    if (known != known_.end()) return known->second;
    const StoragePlan plan = storage.plan(weight);
    const QuantizedWeights placeholder = placeholderWeights(plan.layout, storage.rule(weight));
    return known_[key] = added(weight, [&](ir::Edit& edit, const TargetWeight& copy, PassReport& report) {
               storage.store(edit, copy, placeholder, report);
           });
}

std::int64_t ChoiceBytes::of(const TargetWeight& weight, const EncodedTable& table) const {
    return added(weight, [&](ir::Edit& edit, const TargetWeight& copy, PassReport& report) {
        storeTable(edit, copy, table, report);
    });
}

template <class Store>
std::int64_t ChoiceBytes::added(const TargetWeight& weight, const Store& store) const {
    ir::Model copy = model_.clone();
    // The weight's sites in the copy.
    std::vector<analysis::Site> sites;
    for (const analysis::Site* site : weight.sites) {
        sites.push_back(*site);
        sites.back().node = copy.graph().nodes()[site->node->position()].get();
        sites.back().input = copy.graph().find(site->input->name());
        sites.back().output = copy.graph().find(site->output->name());
    }
    TargetWeight there = weight;
    there.constant = copy.graph().find(weight.constant->name());
    for (std::size_t i = 0; i < sites.size(); ++i) there.sites[i] = &sites[i];
    PassReport unused;
    ir::Edit edit(copy, pass_);
    store(edit, there, unused);
    edit.commit();
    return partBytes(copy) - before_;
}

}  // namespace tcompress::passes
