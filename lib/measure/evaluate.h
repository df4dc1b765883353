#pragma once
// What a model does on data: task metrics where there are labels, fidelity to another model, latency, energy.
// Nothing is invented: a metric without its data is absent.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "lib/support/progress.h"

namespace tcompress::measure {

/// A value with the 95 % confidence interval of its mean over samples (percentile bootstrap for paired
/// differences, Wilson for shares).
struct Estimate {
    double value = 0;
    double low = 0;
    double high = 0;
    std::int64_t samples = 0;
};

/// Task metrics of one model on labelled data. Labels of rank 1 against logits [N, C]: accuracy, top5 (when C
/// > 5), f1 (macro), cross_entropy. Labels of rank 2 (tokens; −100 is ignored) against logits [N, T, C]:
/// token accuracy, cross_entropy (nats per token), perplexity.
struct TaskMetrics {
    std::string output;  ///< which output held the logits
    std::map<std::string, Estimate> metrics;
    std::vector<bool> correct;  ///< per sample or token, for paired comparison
    std::vector<float> loss;    ///< per sample or token
};

/// Fidelity of `compressed` to `original` over the same samples, for one floating-point output. Where an
/// attention mask [N, T] is fed and the output is [N, T, …], padding positions are left out of everything.
struct Fidelity {
    Estimate cosine;              ///< mean over samples of the cosine between flattened outputs
    Estimate meanPooledCosine;    ///< for [N, T, H] outputs with an attention mask: cosine of masked means;
                                  ///< absent (samples 0) otherwise
    Estimate neighbourAgreement;  ///< share of samples whose nearest other sample (masked mean cosine) stays
                                  ///< the same
    Estimate klDivergence;        ///< of softmax(logits), nats, only for outputs that are logits
    Estimate top1Agreement;       ///< share of rows whose argmax is the same, only for logits
    double sqnrDecibels = 0;      ///< 10 log10(Σ reference² / Σ (reference − candidate)²)
    double maxAbsoluteError = 0;
};

/// Wall-clock seconds of one run of a whole batch.
struct LatencyResult {
    double medianSeconds = 0, p95Seconds = 0;
    std::int64_t runs = 0, warmupRuns = 0;
    std::int64_t batch = 0;
    int threads = 0;
};
struct LatencyComparison {
    LatencyResult original, compressed;      ///< runs of the two alternate within one session
    double speedup = 0;                      ///< median of original/compressed, pair by pair
    double speedupLow = 0, speedupHigh = 0;  ///< 95 % percentile bootstrap over the pairs
};

struct Energy {
    double joulesPerInference = 0;
    bool measured = false;  ///< RAPL counters; otherwise modelled from MACs and bytes
    std::string method;     ///< where the figure comes from, with sources
    double gramsCo2e = 0;   ///< per 1,000 inferences
    double gridGramsPerKwh = 0;
};

struct Evaluation {
    std::int64_t samples = 0;
    std::string dataOrigin;
    std::int64_t batchSize = 0;
    std::optional<TaskMetrics> originalTask, compressedTask;
    std::optional<PairedCounts> pairedCounts;
    std::map<std::string, Estimate> pairedDifference;  ///< compressed − original, by metric
    std::map<std::string, Fidelity> fidelity;          ///< by output name
    std::optional<LatencyComparison> latency;
    std::optional<Energy> originalEnergy, compressedEnergy;
};

struct EvaluateOptions {
    std::int64_t batchSize = 16;
    std::int64_t maxSamples = 0;  ///< 0 = all
    bool latency = true;
    std::int64_t latencyRuns = 30;
    double gridGramsPerKwh = 480.0;  ///< IEA world average 2023; stated in the report
};

/// `compressed` may be null: then one model is evaluated by itself. `dataset` may be null: latency and energy
/// only, on synthetic inputs.
Evaluation evaluate(const ir::Model& original, const ir::Model* compressed, const data::Dataset* dataset,
                    const EvaluateOptions& options);

}  // namespace tcompress::measure
