#include <fmt/core.h>

#include <cmath>

#include "lib/report/sections.h"
#include "lib/report/text.h"

namespace tcompress::report {
namespace {

std::string taskTable(const measure::Evaluation& evaluation) {
    const measure::TaskMetrics& before = *evaluation.originalTask;
    std::string text =
        fmt::format("## Accuracy\n\nOn output {} over {} samples of {}; 95 % intervals in brackets.\n\n",
                    code(before.output), evaluation.samples, code(evaluation.dataOrigin));
    if (!evaluation.compressedTask) {
        Table table{{"metric", Align::left}, {"model"}};
        for (const auto& [name, estimate] : before.metrics) table.row({name, estimateText(estimate)});
        return text + table.text();
    }
    Table table{{"metric", Align::left}, {"original"}, {"compressed"}, {"paired difference"}};
    for (const auto& [name, estimate] : before.metrics) {
        const auto after = evaluation.compressedTask->metrics.find(name);
        const auto difference = evaluation.pairedDifference.find(name);
        table.row(
            {name, estimateText(estimate),
             after == evaluation.compressedTask->metrics.end() ? "-" : estimateText(after->second),
             difference == evaluation.pairedDifference.end() ? "-" : differenceText(difference->second)});
    }
    text += table.text();
    if (evaluation.pairedCounts) {
        const measure::PairedCounts& counts = *evaluation.pairedCounts;
        text += fmt::format(
            "Both right {}, only the original {}, only the compressed {}, both wrong {} (exact McNemar p = "
            "{}).\n\n",
            counts.bothCorrect, counts.onlyOriginal, counts.onlyCompressed, counts.bothWrong,
            numberText(counts.pValue));
    }
    return text;
}

std::string fidelityTable(const measure::Evaluation& evaluation) {
    Table table{{"output", Align::left}, {"measure", Align::left}, {"value"}};
    for (const auto& [output, fidelity] : evaluation.fidelity) {
        const auto add = [&, name = code(output)](const char* measure, const measure::Estimate& estimate) {
            if (estimate.samples > 0) table.row({name, measure, estimateText(estimate)});
        };
        add("cosine", fidelity.cosine);
        add("cosine of masked means", fidelity.meanPooledCosine);
        add("nearest neighbour unchanged", fidelity.neighbourAgreement);
        add("KL divergence, nats", fidelity.klDivergence);
        add("top-1 agreement", fidelity.top1Agreement);
        if (fidelity.cosine.samples == 0) continue;
        const bool equal = std::isinf(fidelity.sqnrDecibels) && fidelity.maxAbsoluteError == 0;
        table.row({code(output), "SQNR", equal ? "equal" : numberText(fidelity.sqnrDecibels) + " dB"});
        table.row({code(output), "largest error", numberText(fidelity.maxAbsoluteError)});
    }
    return fmt::format("## Fidelity to the original\n\nOver {} samples of {}.\n\n", evaluation.samples,
                       code(evaluation.dataOrigin)) +
           table.text();
}

}  // namespace

std::string qualitySection(const measure::Evaluation& evaluation) {
    std::string text;
    if (evaluation.originalTask && !evaluation.originalTask->metrics.empty()) text += taskTable(evaluation);
    if (!evaluation.fidelity.empty()) text += fidelityTable(evaluation);
    if (evaluation.notes.empty()) return text;
    text += "Notes:\n\n";
    for (const std::string& note : evaluation.notes) text += fmt::format("- {}\n", note);
    return text + '\n';
}

std::string costSection(const measure::Evaluation& evaluation) {
    std::string text;
    if (evaluation.latency) {
        const measure::LatencyComparison& latency = *evaluation.latency;
        Table table{{"latency", Align::left},
                    {"median"},
                    {"95th percentile"},
                    {"runs"},
                    {"warm-up"},
                    {"batch"},
                    {"threads"}};
        const auto add = [&](const char* name, const measure::LatencyResult& result) {
            table.row({name, secondsText(result.medianSeconds), secondsText(result.p95Seconds),
                       std::to_string(result.runs), std::to_string(result.warmupRuns),
                       std::to_string(result.batch), std::to_string(result.threads)});
        };
        add(latency.compressed.runs > 0 ? "original" : "model", latency.original);
        if (latency.compressed.runs > 0) add("compressed", latency.compressed);
        text += "## Latency\n\n" + table.text();
        if (latency.compressed.runs > 0)
            text += fmt::format(
                "Speed-up {:.2f} [{:.2f}, {:.2f}]: median over pairs of runs; the two models were timed in "
                "turns in this program's "
                "executor.\n\n",
                latency.speedup, latency.speedupLow, latency.speedupHigh);
    }
    if (evaluation.originalEnergy) {
        Table table{{"energy", Align::left}, {"per inference"}, {"label", Align::left}, {"g CO2e per 1,000"}};
        const auto add = [&](const char* name, const measure::Energy& energy) {
            table.row({name, joulesText(energy.joulesPerInference), energy.measured ? "measured" : "modelled",
                       numberText(energy.gramsCo2e)});
        };
        add(evaluation.compressedEnergy ? "original" : "model", *evaluation.originalEnergy);
        if (evaluation.compressedEnergy) add("compressed", *evaluation.compressedEnergy);
        text += "## Energy\n\n" + table.text();
        text += fmt::format("{}: {}. ", evaluation.compressedEnergy ? "Original" : "Model",
                            evaluation.originalEnergy->method);
        if (evaluation.compressedEnergy)
            text += fmt::format("Compressed: {}. ", evaluation.compressedEnergy->method);
        text += fmt::format("Grid: {} g CO2e per kWh.\n\n",
                            numberText(evaluation.originalEnergy->gridGramsPerKwh));
    }
    return text;
}

}  // namespace tcompress::report
