#pragma once
// The one definition of the report's JSON: for each struct its keys, in order, with what they mean.
// JsonWriter makes the document from it, SchemaWriter the published schema, so the two cannot differ.
//
// A visitor has
//   type(name, help)               names the object (its entry in the schema's $defs)
//   field(key, value, help)        always there
//   present(key, value, isThere, help)  left out of the document when not measured
//   embedded(key, jsonText, help)  an object given as JSON text, left out when empty
//   choice(key, index, names, help)     one of the names

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "lib/report/report.h"

namespace tcompress::report {

/// Figures of the compressed model as a share of the original's.
struct Ratios {
    std::optional<double> fileBytes, constantBytes, parameters, macs;
};
/// Empty unless both models are there.
std::optional<Ratios> ratios(const Report& report);

inline constexpr std::array<std::string_view, 3> outcomeNames{"met", "missed", "not_measured"};

template <class V>
void describe(V& v, const FileRecord& x) {
    v.type("file", "A file that was read or written.");
    v.field("path", x.path, "as it was given");
    v.present("sha256", x.sha256, !x.sha256.empty(), "SHA-256 of the file, hexadecimal");
    v.field("bytes", x.fileBytes, "size on disk; of a model with its external data");
}

template <class V>
void describe(V& v, const analysis::RoleCost& x) {
    v.type("role_cost", "Size and work of the weights of one role.");
    v.field("parameters", x.parameters, "elements of the weights");
    v.field("bytes", x.bytes, "bytes they are stored in");
    v.field("non_zero", x.nonZero, "elements that are not zero; of integer weights all are counted");
    v.field("macs", x.macs, "multiply-accumulates at the reference input");
}

template <class V>
void describe(V& v, const analysis::ModelCost& x) {
    v.type("model_cost", "Size and work of a model. MACs are those of batch 1 and the reference length.");
    v.field("parameters", x.parameters, "elements of all weights, shared ones once");
    v.field("bytes", x.bytes, "bytes they are stored in");
    v.field("non_zero", x.nonZero, "elements that are not zero; of integer weights all are counted");
    v.field("macs", x.macs, "multiply-accumulates of one inference");
    v.field("sequence_length", x.sequenceLength, "reference length for dynamic dimensions; 0 where there is none");
    v.field("by_role", x.byRole, "the same by role: embedding, attention, ffn, norm, classifier, other");
    v.field("macs_by_type", x.macsByType, "multiply-accumulates by the type they are computed in");
}

template <class V>
void describe(V& v, const ModelRecord& x) {
    v.type("model", "One of the two models.");
    v.field("file", x.file, "the model file");
    v.field("external_data", x.externalData, "files that hold its weights besides");
    v.field("constant_bytes", x.constantBytes, "constant data in memory, shared data once");
    v.field("nodes", x.nodes, "operators in the graph");
    v.field("opset", x.opset, "version of the standard operator set");
    v.present("cost", x.cost, "parameters, non-zero weights, multiply-accumulates");
}

template <class V>
void describe(V& v, const Ratios& x) {
    v.type("ratios", "Compressed divided by original.");
    v.present("file_bytes", x.fileBytes, "size on disk, external data included");
    v.present("constant_bytes", x.constantBytes, "constant data in memory");
    v.present("parameters", x.parameters, "elements of the weights");
    v.present("macs", x.macs, "multiply-accumulates");
}

template <class V>
void describe(V& v, const ChangedSite& x) {
    v.type("changed_site", "A place that a pass changed.");
    v.field("site", x.site, "name of the node or weight");
    v.field("change", x.change, "what it was and what it is");
    v.present("error", x.error,
              "relative error of the site's weights or outputs, where the pass measured it");
}

template <class V>
void describe(V& v, const SkippedSite& x) {
    v.type("skipped_site", "A place that a pass left alone.");
    v.field("site", x.site, "name of the node or weight");
    v.field("reason", x.reason, "why");
}

template <class V>
void describe(V& v, const Totals& x) {
    v.type("totals", "The whole model at one point of the pipeline.");
    v.field("bytes", x.bytes, "bytes of the weights");
    v.field("parameters", x.parameters, "elements of the weights");
    v.field("macs", x.macs, "multiply-accumulates at the reference input");
}

template <class V>
void describe(V& v, const PassRow& x) {
    v.type("pass", "One pass of the pipeline.");
    v.field("type", x.type, "family");
    v.present("method", x.method, !x.method.empty(), "method of the family");
    v.embedded("options", x.optionsJson, "every option as it was used");
    v.field("seconds", x.seconds, "wall-clock time");
    v.present("before", x.before, "the model before the pass");
    v.present("after", x.after, "the model after the pass");
    v.field("changed", x.changed, "sites that were changed");
    v.field("skipped", x.skipped, "sites that were left alone");
    v.field("notes", x.notes, "what else the pass has to say");
}

template <class V>
void describe(V& v, const ConstraintRow& x) {
    v.type("constraint", "A stated limit and whether it was kept.");
    v.field("name", x.name, "max_accuracy_drop, max_size_ratio, min_speedup");
    v.field("limit", x.limit, "as the config states it");
    v.present("actual", x.actual, "what came out");
    v.choice("outcome", static_cast<std::size_t>(x.outcome), outcomeNames, "whether the limit was kept");
    v.present("note", x.note, !x.note.empty(), "what `actual` is, or why it could not be measured");
}

template <class V>
void describe(V& v, const measure::Machine& x) {
    v.type("machine", "Where the run took place.");
    v.field("cpu_model", x.cpuModel, "as the system names it");
    v.field("cpu_features", x.cpuFeatures, "instruction sets that kernels choose by");
    v.field("logical_cores", x.logicalCores, "processors the process may run on");
    v.field("physical_cores", x.physicalCores, "0 when unknown");
    v.field("memory_bytes", x.memoryBytes, "of the machine");
    v.field("operating_system", x.operatingSystem, "name, release, architecture");
}

template <class V>
void describe(V& v, const measure::Estimate& x) {
    v.type("estimate", "A figure with its 95 % confidence interval.");
    v.field("value", x.value, "the figure");
    v.field("low", x.low, "lower end of the interval");
    v.field("high", x.high, "upper end of the interval");
    v.field("samples", x.samples, "samples, or tokens, it is a mean over");
}

template <class V>
void describe(V& v, const measure::PairedCounts& x) {
    v.type("paired_counts", "Right and wrong predictions of both models on the same samples or tokens.");
    v.field("both_correct", x.bothCorrect, "both right");
    v.field("only_original", x.onlyOriginal, "only the original right");
    v.field("only_compressed", x.onlyCompressed, "only the compressed right");
    v.field("both_wrong", x.bothWrong, "both wrong");
    v.field("p_value", x.pValue, "exact two-sided McNemar test that neither model is better");
}

template <class V>
void describe(V& v, const measure::TaskMetrics& x) {
    v.type("task", "Metrics of one model on labelled data.");
    v.field("output", x.output, "the output that held the scores");
    v.field("metrics", x.metrics,
            "accuracy, top5, f1 (macro) and cross_entropy (nats) of classifiers; token_accuracy, "
            "cross_entropy (nats per "
            "token) and perplexity of token labels");
}

template <class V>
void describe(V& v, const measure::Fidelity& x) {
    const auto estimate = [&v](std::string_view key, const measure::Estimate& value, std::string_view help) {
        v.present(key, value, value.samples > 0, help);
    };
    v.type("fidelity",
           "How near an output of the compressed model is to the original's; padding is left out.");
    estimate("cosine", x.cosine, "mean over samples of the cosine between flattened outputs");
    estimate("mean_pooled_cosine", x.meanPooledCosine,
             "mean over samples of the cosine between masked means of token states");
    estimate("neighbour_agreement", x.neighbourAgreement,
             "share of samples whose nearest other sample stays the same");
    estimate("kl_divergence", x.klDivergence,
             "KL(original || compressed) of the predicted distributions, nats");
    estimate("top1_agreement", x.top1Agreement, "share of rows whose largest score is the same class");
    v.field("sqnr_db", x.sqnrDecibels, "signal to error ratio in decibels; null when the outputs are equal");
    v.field("max_absolute_error", x.maxAbsoluteError, "largest difference of an element");
    v.field("not_finite_samples", x.notFiniteSamples, "samples left out for NaN or infinity");
}

template <class V>
void describe(V& v, const measure::LatencyResult& x) {
    v.type("latency", "Wall-clock time of one run of a batch.");
    v.field("median_seconds", x.medianSeconds, "median of the runs");
    v.field("p95_seconds", x.p95Seconds, "95th percentile of the runs");
    v.field("runs", x.runs, "runs that count");
    v.field("warmup_runs", x.warmupRuns, "runs before them that do not");
    v.field("batch", x.batch, "samples of a run");
    v.field("threads", x.threads, "threads that were used");
}

template <class V>
void describe(V& v, const measure::LatencyComparison& x) {
    const bool both = x.compressed.runs > 0;
    v.type("latency_comparison",
           "Both models timed in turns within one session, in this program's executor.");
    v.field("original", x.original, "the original");
    v.present("compressed", x.compressed, both, "the compressed model");
    v.present("speedup", x.speedup, both,
              "median over pairs of the original's time divided by the compressed model's");
    v.present("speedup_low", x.speedupLow, both, "lower end of its 95 % interval");
    v.present("speedup_high", x.speedupHigh, both, "upper end of its 95 % interval");
}

template <class V>
void describe(V& v, const measure::Energy& x) {
    v.type("energy", "Energy of one inference.");
    v.field("joules_per_inference", x.joulesPerInference, "the figure");
    v.field("measured", x.measured,
            "true: counters of the processor; false: modelled from arithmetic and memory traffic");
    v.field("method", x.method, "where the figure comes from, with sources");
    v.present("arithmetic_joules", x.arithmeticJoules, !x.measured,
              "part of a modelled figure: multiply-accumulates");
    v.present("memory_joules", x.memoryJoules, !x.measured, "part of a modelled figure: reading weights");
    v.field("grams_co2e_per_1000", x.gramsCo2e, "of 1,000 inferences at the grid intensity");
    v.field("grid_grams_per_kwh", x.gridGramsPerKwh, "grid intensity, grams of CO2 equivalent per kWh");
}

template <class V>
void describe(V& v, const measure::Evaluation& x) {
    v.type("evaluation", "What the models do on data.");
    v.field("data", x.dataOrigin, "file of the samples, or \"synthetic\"");
    v.field("samples", x.samples, "samples that quality was measured on");
    v.field("batch_size", x.batchSize, "samples at once");
    v.present("original_task", x.originalTask, "labelled metrics of the original");
    v.present("compressed_task", x.compressedTask, "labelled metrics of the compressed model");
    v.present("paired_difference", x.pairedDifference, !x.pairedDifference.empty(),
              "compressed minus original by metric, bootstrapped over pairs");
    v.present("paired_counts", x.pairedCounts, "predictions of both, sample by sample");
    v.field("fidelity", x.fidelity, "by output");
    v.present("latency", x.latency, "time of a run");
    v.present("original_energy", x.originalEnergy, "energy of the original");
    v.present("compressed_energy", x.compressedEnergy, "energy of the compressed model");
    v.field("notes", x.notes, "what could not be measured and why, outputs that are not finite");
}

template <class V>
void describe(V& v, const Report& x) {
    v.type("report",
           "Report of tcompress: what a run did and what came of it. Numbers that are not finite are null.");
    v.field("schema_version", schemaVersion, "goes up when a key changes its meaning or goes away");
    v.field("tool_version", x.toolVersion, "version of tcompress");
    v.field("command", x.command, "as it was typed");
    v.embedded("config", x.configJson, "resolved pipeline config");
    v.present("seed", x.seed, "of every random choice");
    v.field("threads", x.threads, "threads that were used");
    v.field("seconds", x.seconds, "wall-clock time of the whole command");
    v.field("peak_memory_bytes", x.peakMemoryBytes, "most memory the process held at once");
    v.field("machine", x.machine, "where the run took place");
    v.present("original", x.original, "the model that went in");
    v.present("compressed", x.compressed, "the model that came out");
    v.present("ratios", ratios(x), "compressed divided by original");
    v.field("data", x.data, "calibration and evaluation files");
    v.field("passes", x.passes, "in the order they ran");
    v.present("evaluation", x.evaluation, "what the models do on data");
    v.field("constraints", x.constraints, "stated limits");
    v.field("warnings", x.warnings, "what a reader should know first");
}

}  // namespace tcompress::report
