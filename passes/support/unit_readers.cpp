#include "passes/support/unit_readers.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

namespace tcompress::passes {

using analysis::Site;

std::vector<std::int64_t> UnitReader::inputsThatStay(const std::vector<bool>& mask) const {
    std::vector<bool> stays(static_cast<std::size_t>(inputs), true);
    for (std::size_t unit = 0; unit < groups.size(); ++unit)
        for (const std::int64_t input : groups[unit]) stays[static_cast<std::size_t>(input)] = mask[unit];
    std::vector<std::int64_t> result;
    for (std::int64_t i = 0; i < inputs; ++i)
        if (stays[static_cast<std::size_t>(i)]) result.push_back(i);
    return result;
}

UnitWeights::UnitWeights(const analysis::TransformerView& view)
    : view_(view), weights_(targetWeights(view, {}, unusable_)) {}

const TargetWeight* UnitWeights::find(const std::string& constant) const {
    const auto found = std::find_if(weights_.begin(), weights_.end(), [&](const TargetWeight& weight) {
        return weight.constant->name() == constant;
    });
    return found == weights_.end() ? nullptr : &*found;
}

const TargetWeight* UnitWeights::weightOf(const Site& site, std::string& refusal) const {
    for (const TargetWeight& weight : weights_)
        if (std::find(weight.sites.begin(), weight.sites.end(), &site) != weight.sites.end()) {
            refusal = refitRefusal(weight);
            return refusal.empty() ? &weight : nullptr;
        }
    for (const pipeline::SkippedSite& skipped : unusable_.skipped)
        if (skipped.site == site.name) refusal = skipped.reason;
    if (refusal.empty()) refusal = "its weights cannot be fitted again";
    return nullptr;
}

std::vector<UnitReader> UnitWeights::readersOf(UnitTask& task) const {
    std::vector<UnitReader> readers;
    const std::int64_t units = view_.axes->store->leafSize(task.layers.leaf);
    for (const UnitLayer& layer : task.layers.layers)
        for (const std::size_t index : layer.consumers) {
            const Site& site = view_.sites[index];
            const TargetWeight* weight = weightOf(site, task.refusal);
            if (weight == nullptr) return {};
            auto reader = std::find_if(readers.begin(), readers.end(),
                                       [&](const UnitReader& other) { return other.weight == weight; });
            if (reader == readers.end()) {
                readers.emplace_back();
                reader = std::prev(readers.end());
                reader->weight = weight;
                reader->groups.resize(static_cast<std::size_t>(units));
                const auto positions = leafPositions(
                    *view_.axes->store, view_.axes->axes.at(site.weight).at(site.inAxis), task.layers.leaf);
                for (std::size_t i = 0; i < positions.size(); ++i)
                    if (positions[i] >= 0)
                        reader->groups[static_cast<std::size_t>(positions[i])].push_back(static_cast<std::int64_t>(i));
                reader->bias = biasFit(site);
                if (task.curvature) reader->metric = task.curvature->of(*weight);
            }
            reader->queries.push_back(evidenceQuery(site, layer.residualAdd));
        }
    for (const UnitReader& reader : readers)
        if (reader.queries.size() != reader.weight->sites.size())
            task.refusal =
                fmt::format("'{}' shares its weights with a layer of another kind", reader.weight->name());
    if (readers.empty()) task.refusal = "nothing was found that reads its units";
    return readers;
}

std::shared_ptr<const OutputCurvature> readersCurvature(const ir::Model& model, const analysis::TransformerView& view,
                                                        const std::vector<UnitLayers>& layers, const data::Split& samples,
                                                        const pipeline::PassContext& context, pipeline::PassReport& report) {
    const UnitWeights weights(view);
    std::vector<const TargetWeight*> read;
    for (const UnitLayers& group : layers) {
        UnitTask task{group, 0, {}, {}};
        for (const UnitReader& reader : weights.readersOf(task)) read.push_back(reader.weight);
    }
    auto curvature = std::make_shared<const OutputCurvature>(model, view, read, samples.fit, context);
    curvature->noteRefusal(report);
    return curvature;
}

WalkStep stepOf(const std::vector<UnitReader>& readers, std::function<void(EvidenceWalk&)> run) {
    WalkStep step{{}, std::numeric_limits<std::size_t>::max(), std::move(run)};
    for (const UnitReader& reader : readers)
        for (const Site* site : reader.weight->sites) {
            step.sites.push_back(site);
            step.position = std::min(step.position, site->node->position());
        }
    return step;
}

std::vector<EvidenceQuery> queriesOf(const std::vector<UnitReader>& readers) {
    std::vector<EvidenceQuery> queries;
    for (const UnitReader& reader : readers)
        queries.insert(queries.end(), reader.queries.begin(), reader.queries.end());
    return queries;
}

void takeEvidence(std::vector<UnitReader>& readers, std::span<Evidence> evidence) {
    std::size_t next = 0;
    for (UnitReader& reader : readers) {
        reader.start = readLayer(*reader.weight->sites.front());
        reader.evidence = std::move(evidence[next++]);
        for (std::size_t i = 1; i < reader.queries.size(); ++i, ++next) {
            reader.evidence->fit += evidence[next].fit;
            reader.evidence->held += evidence[next].held;
        }
        reader.inputs = reader.evidence->fit.inputs;
        reader.outputs = reader.evidence->fit.outputs;
    }
}

void gatherEvidence(EvidenceWalk& walk, std::vector<UnitReader>& readers) {
    std::vector<Evidence> evidence = walk.collect(queriesOf(readers));
    takeEvidence(readers, evidence);
}

RemovalProblem removalProblem(const UnitReader& reader, const LayerSums& sums, const RefitChoice& choice) {
    return {hessian(sums, choice), refit(sums, reader.start, choice).weight, reader.outputs, reader.groups, reader.metric};
}

LinearLayer spread(const LinearLayer& layer, const std::vector<std::int64_t>& inputs, std::int64_t all) {
    const auto outputs = static_cast<std::int64_t>(layer.bias.size());
    LinearLayer result{std::vector<double>(static_cast<std::size_t>(all * outputs)), layer.bias};
    for (std::size_t i = 0; i < inputs.size(); ++i)
        std::copy_n(layer.weight.begin() + static_cast<std::int64_t>(i) * outputs, outputs,
                    result.weight.begin() + inputs[i] * outputs);
    return result;
}

}  // namespace tcompress::passes
