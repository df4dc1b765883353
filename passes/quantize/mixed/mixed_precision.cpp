#include "passes/quantize/mixed/mixed_precision.h"

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/pipeline/records.h"
#include "passes/quantize/solver/gptq_run.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/support/equal_constants.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

/// Shapes, shifts and offsets, which every unpacked weight reads: nothing that depends on a weight's values.
bool isSharedOperand(const Tensor& tensor) {
    constexpr std::int64_t kMostValues = 8;
    return tensor.rank() == 0 ||
           (tensor.rank() == 1 && isInteger(tensor.dtype()) && tensor.size() <= kMostValues);
}

/// All weights of a model, by the names of their constants.
std::unordered_map<std::string, const TargetWeight*> byName(const std::vector<TargetWeight>& weights) {
    std::unordered_map<std::string, const TargetWeight*> result;
    for (const TargetWeight& weight : weights) result.emplace(weight.constant->name(), &weight);
    return result;
}

/// The order in which quantizeByGptqInTurn emits.
std::vector<StoredWeight> inTurn(const std::vector<StoredWeight>& stored) {
    std::vector<StoredWeight> result;
    std::unordered_map<const TargetWeight*, StoredWeight> known;
    std::vector<const TargetWeight*> linear;
    for (const StoredWeight& one : stored) {
        known.emplace(one.weight, one);
        if (multipliesRows(*one.weight))
            linear.push_back(one.weight);
        else
            result.push_back(one);
    }
    for (const LayerStage& stage : stagesOf(linear))
        for (const TargetWeight* weight : stage.weights) result.push_back(known.at(weight));
    return result;
}

}  // namespace

std::int64_t fileBytes(const ir::Model& model) {
    return static_cast<std::int64_t>(pipeline::predictedFileBytes(model));
}

MixedPrecision::MixedPrecision(const ir::Model& model, const PassContext& context, std::string pass,
                               const std::vector<WeightChoices>& items, const data::Split* samples)
    : model_(model), context_(context), pass_(std::move(pass)), items_(items), samples_(samples) {
    // Layers are fitted to what they give before their tables are rounded.
    if (context_.original() == nullptr) context_.setOriginal(&model_);
}

ir::Model MixedPrecision::quantized(const std::vector<std::size_t>& chosen, PassReport& report) const {
    ir::Model model = applied(chosen, Codes::rounded, report);
    ir::inferTypes(model);
    return model;
}

std::int64_t MixedPrecision::predictedBytes(const std::vector<std::size_t>& chosen) const {
    PassReport unused;
    ir::Model model = applied(chosen, Codes::placeholder, unused);
    ir::inferTypes(model);
    return fileBytes(model);
}

ir::Model MixedPrecision::applied(const std::vector<std::size_t>& chosen, Codes codes,
                                  PassReport& report) const {
    ir::Model model = model_.clone();
    storeTables(model, chosen, codes, report);
    storeGroups(model, chosen, codes, report);
    mergeEqualConstants(model, pass_, isSharedOperand);
    return model;
}

void MixedPrecision::storeTables(ir::Model& model, const std::vector<std::size_t>& chosen, Codes codes,
                                 PassReport& report) const {
    // Made here, not by the context: copies come and go, and a view is kept by the address of its model.
    const analysis::TransformerView view = analysis::recognise(model);
    PassReport known;
    const std::vector<TargetWeight> weights = targetWeights(view, {}, known);
    const auto named = byName(weights);
    ir::Edit edit(model, pass_);
    for (std::size_t i = 0; i < items_.size(); ++i) {
        const StorageChoice& choice = items_[i].choices[chosen[i]];
        if (!choice.rows) continue;
        const TieredQuantizer& table = *items_[i].table;
        storeTable(edit, *named.at(items_[i].weight->constant->name()),
                   codes == Codes::rounded ? table.encode(*choice.rows) : table.placeholder(*choice.rows),
                   report);
    }
    if (edit.empty()) return;
    edit.commit();
    ir::inferTypes(model);
}

void MixedPrecision::storeGroups(ir::Model& model, const std::vector<std::size_t>& chosen, Codes codes,
                                 PassReport& report) const {
    const analysis::TransformerView view = analysis::recognise(model);
    PassReport known;
    const std::vector<TargetWeight> weights = targetWeights(view, {}, known);
    const auto named = byName(weights);
    std::vector<StoredWeight> stored;
    for (std::size_t i = 0; i < items_.size(); ++i)
        if (const StorageChoice& choice = items_[i].choices[chosen[i]]; choice.storage)
            stored.push_back({named.at(items_[i].weight->constant->name()), choice.storage.get()});
    if (stored.empty()) return;
    if (codes == Codes::rounded && samples_ != nullptr)
        return quantizeByGptqInTurn(model, view, context_, pass_, {}, *samples_, stored, report);
    if (samples_ != nullptr) stored = inTurn(stored);
    ir::Edit edit(model, pass_);
    for (const auto& [weight, storage] : stored) {
        const StoragePlan plan = storage->plan(*weight);
        const auto values = weight->constant->constant()->data<float>();
        storage->store(edit, *weight,
                       codes == Codes::rounded ? *quantizeByHqq(values, plan.layout, storage->rule(*weight), {})
                                               : placeholderWeights(plan.layout, storage->rule(*weight)),
                       report);
        // GPTQ moves constants behind layers.
        if (samples_ == nullptr || !multipliesRows(*weight)) continue;
        if (const auto bias = biasBehind(*weight)) edit.setConstant(bias->value, bias->changed);
    }
    edit.commit();
}

}  // namespace tcompress::passes
