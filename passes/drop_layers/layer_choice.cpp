#include "passes/drop_layers/layer_choice.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"
#include "passes/support/evidence.h"
#include "passes/support/layerwise.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {
namespace {

/// The identity: the plain drop.
LinearLayer identity(std::int64_t width) {
    LinearLayer layer{std::vector<double>(static_cast<std::size_t>(width * width)),
                      std::vector<double>(static_cast<std::size_t>(width))};
    for (std::int64_t i = 0; i < width; ++i) layer.weight[static_cast<std::size_t>(i * width + i)] = 1;
    return layer;
}

/// The original with runs cut out.
ir::Model without(const ir::Model& original, const std::vector<LayerRun>& runs) {
    ir::Model model = original.clone();
    pipeline::PassReport unused;
    for (const LayerRun& run : runs) cutOut(model, run, "trial", unused);
    return model;
}

}  // namespace

std::optional<RunFit> fitRun(const Evidence& evidence, Patch patch) {
    if (evidence.fit.inputs != evidence.fit.outputs || evidence.held.yy <= 0) return std::nullopt;
    const LinearLayer start = identity(evidence.fit.inputs);
    const auto heldError = [&](const LinearLayer& layer) {
        return std::sqrt(std::max(0.0, squaredError(evidence.held, layer, 1)) / evidence.held.yy);
    };
    RunFit fit;
    fit.errorPlain = heldError(start);
    if (patch == Patch::bias) {
        const RefitChoice mean{0, 0, BiasFit::fitted, 0};
        fit.errorPatched = heldError(withBias(evidence.fit, start.weight, start, mean));
        fit.map = {{}, withBias(evidence.all(), start.weight, start, mean).bias};
        fit.choice = "the mean of what it adds";
        return fit;
    }
    const RefitChoice choice = chooseRefit(evidence, start, BiasFit::fitted);
    fit.map = refit(evidence.all(), start, choice);
    fit.errorPatched = std::sqrt(std::max(0.0, choice.heldError));
    fit.choice = describe(choice);
    return fit;
}

std::optional<EvidenceQuery> runQuery(const ir::Model& original, const ir::Model& edited, const LayerRun& run) {
    const ir::Value* input = edited.graph().find(run.input);
    // Behind an edit types are unknown until they are inferred again; the original's say the same.
    if (input == nullptr || input->producer() == nullptr ||
        original.graph().find(run.input)->dtype() != DType::float32)
        return std::nullopt;
    return EvidenceQuery{input, original.graph().find(run.output), nullptr};
}

std::vector<std::optional<RunFit>> fitRuns(const ir::Model& original, const ir::Model& edited,
                                           const std::vector<LayerRun>& runs, const data::Split& samples,
                                           const calibration::Environment& environment, Patch patch) {
    std::vector<EvidenceQuery> queries;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        const std::optional<EvidenceQuery> query = runQuery(original, edited, runs[i]);
        if (!query) continue;
        queries.push_back(*query);
        places.push_back(i);
    }
    std::vector<std::optional<RunFit>> fits(runs.size());
    if (queries.empty()) return fits;
    const std::vector<Evidence> evidence = collectEvidence(original, edited, queries, samples, environment);
    for (std::size_t i = 0; i < places.size(); ++i) fits[places[i]] = fitRun(evidence[i], patch);
    return fits;
}

double outputError(const ir::Model& original, const ir::Model& edited, const std::vector<std::string>& outputs,
                   const data::Dataset& samples, const calibration::Environment& environment) {
    calibration::Collector collector(original, edited);
    std::vector<const calibration::SimilaritySums*> sums;
    for (const std::string& name : outputs)
        if (const ir::Value* now = edited.graph().find(name); now != nullptr && now->producer() != nullptr)
            sums.push_back(&collector.add<calibration::SimilaritySums>(
                calibration::Source{original.graph().find(name), calibration::Side::original},
                calibration::Source{now, calibration::Side::edited}));
    if (sums.empty()) return 0;
    collector.run(samples, environment.progress, environment.resources);
    double error = 0;
    for (const auto* sum : sums) error += sum->result().relativeError();
    return error / static_cast<double>(sums.size());
}

std::size_t leastMissed(const ir::Model& original, const std::vector<LayerSpan>& spans,
                        const std::set<std::size_t>& dropped, Patch patch, const data::Split& samples,
                        const calibration::Environment& environment, std::vector<double>& errors) {
    const std::vector<std::string> outputs = comparableOutputs(original.graph(), spans);
    // What is cut out already, with its maps, is what the candidates' maps start from.
    std::vector<LayerRun> before = runsOf(spans, dropped);
    if (patch != Patch::none) {
        const auto fits = fitRuns(original, original, before, samples, environment, patch);
        for (std::size_t i = 0; i < before.size(); ++i)
            if (fits[i]) before[i].patch = fits[i]->map;
    }
    const ir::Model edited = without(original, before);
    struct Candidate {
        std::size_t layer;
        std::vector<LayerRun> runs;
        std::size_t own;  ///< the run that the candidate is part of
    };
    std::vector<Candidate> candidates;
    std::vector<LayerRun> own;
    for (std::size_t layer = 0; layer < spans.size(); ++layer) {
        if (!spans[layer].isDroppable() || dropped.contains(layer)) continue;
        std::set<std::size_t> more = dropped;
        more.insert(layer);
        Candidate candidate{layer, runsOf(spans, more), 0};
        for (std::size_t i = 0; i < candidate.runs.size(); ++i) {
            const auto& layers = candidate.runs[i].layers;
            if (std::find(layers.begin(), layers.end(), layer) != layers.end()) candidate.own = i;
            for (const LayerRun& known : before)
                if (known.layers == layers) candidate.runs[i].patch = known.patch;
        }
        own.push_back(candidate.runs[candidate.own]);
        candidates.push_back(std::move(candidate));
    }
    std::vector<std::optional<RunFit>> fits(own.size());
    if (patch != Patch::none) fits = fitRuns(original, edited, own, samples, environment, patch);
    errors.assign(spans.size(), std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        Candidate& candidate = candidates[i];
        if (fits[i]) candidate.runs[candidate.own].patch = std::move(fits[i]->map);
        errors[candidate.layer] =
            outputError(original, without(original, candidate.runs), outputs, allJudgesOf(samples), environment);
    }
    return static_cast<std::size_t>(std::min_element(errors.begin(), errors.end()) - errors.begin());
}

void cutOutRuns(ir::Model& model, std::vector<LayerRun> runs, Patch patch, const data::Split& samples,
                const std::string& pass, const calibration::Environment& environment, pipeline::PassReport& report) {
    const ir::Model original = model.clone();
    for (LayerRun& run : runs) {
        std::string change = fmt::format("dropped ('{}' takes the place of '{}')", run.input, run.output);
        double error = -1;
        if (patch != Patch::none) {
            const char* const form = patch == Patch::bias ? "constant" : "linear map";
            std::optional<RunFit> fit = fitRuns(original, model, {run}, samples, environment, patch).front();
            if (fit && fit->errorPatched < fit->errorPlain) {
                change = fmt::format("a {} takes its place: output error {:.3f}, {:.3f} with its input unchanged", form,
                                     fit->errorPatched, fit->errorPlain);
                error = fit->errorPatched;
                report.notes.push_back(fmt::format("{} in the place of {}: {}", form, run.name, fit->choice));
                run.patch = std::move(fit->map);
            } else {
                report.notes.push_back(
                    fit ? fmt::format("{}: a {} would be no better than its input", run.name, form)
                        : fmt::format("{}: its input is no computed float32 value, so nothing is fitted", run.name));
                if (fit) error = fit->errorPlain;
            }
        }
        cutOut(model, run, pass, report);
        for (const std::string& layer : run.names) report.changed.push_back({layer, change, error});
    }
}

}  // namespace tcompress::passes
