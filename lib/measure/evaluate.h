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

/// A value with its 95 % confidence interval. Shares of samples: Wilson's score interval (J. Am. Stat. Assoc.
/// 1927). Everything else, and every paired difference: percentile bootstrap over samples (Efron 1979); the
/// tokens of one sample are drawn together, because they are not independent. samples = 0: not measured.
struct Estimate {
    double value = 0;
    double low = 0;
    double high = 0;
    std::int64_t samples = 0;
};

/// Task metrics of one model on labelled data. Labels of rank 1 against logits [N, C]: "accuracy", "top5"
/// (when C > 5), "f1" (macro: mean over the classes that occur among labels or predictions), "cross_entropy".
/// Labels of rank 2 (for each position the token to predict; −100 is ignored) against logits [N, T, C]:
/// "token_accuracy", "cross_entropy" (nats per token), "perplexity". An output of probabilities is used by
/// its logarithm. A row that is not finite counts as wrong, and cross_entropy is then not finite either.
struct TaskMetrics {
    std::string output;  ///< which output held the logits
    std::map<std::string, Estimate> metrics;
    std::vector<bool> correct;  ///< per sample or token, for paired comparison
    std::vector<float> loss;    ///< per sample or token
};

/// Predictions of both models on the same samples or tokens: the table of McNemar's test.
struct PairedCounts {
    std::int64_t bothCorrect = 0, onlyOriginal = 0, onlyCompressed = 0, bothWrong = 0;
    /// Two-sided exact p-value (binomial form of McNemar's test, Psychometrika 1947): chance of disagreements
    /// at least this uneven when neither model is better. Tokens are taken as independent.
    double pValue = 1;
};

/// Fidelity of `compressed` to `original` over the same samples, for one floating-point output. Where an
/// attention mask [N, T] is fed and the output is [N, T, C], padding positions are left out of everything.
struct Fidelity {
    /// Mean over samples of the cosine between flattened outputs.
    Estimate cosine;
    /// Mean over samples of the cosine between masked means [H] of [N, T, H] outputs; needs an attention
    /// mask.
    Estimate meanPooledCosine;
    /// Share of samples whose nearest other sample, by the cosine of masked means, stays the same; over the
    /// first EvaluateOptions::neighbourSamples samples.
    Estimate neighbourAgreement;
    /// KL(original ‖ compressed) of the predicted distributions in nats; only for logits and probabilities.
    Estimate klDivergence;
    /// Share of rows (samples, or tokens) whose argmax is the same; only for logits and probabilities.
    Estimate top1Agreement;
    /// 10 log10(Σ original² / Σ (original − compressed)²); infinite when both are equal.
    double sqnrDecibels = 0;
    double maxAbsoluteError = 0;
    /// Samples with NaN or infinity in either model's output: left out of the figures above.
    std::int64_t notFiniteSamples = 0;
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
    /// What a modelled figure is made of; both 0 when measured.
    double arithmeticJoules = 0, memoryJoules = 0;
};

struct Evaluation {
    std::int64_t samples = 0;
    std::string dataOrigin;
    std::int64_t batchSize = 0;
    std::optional<TaskMetrics> originalTask, compressedTask;
    std::optional<PairedCounts> pairedCounts;
    std::map<std::string, Estimate> pairedDifference;  ///< compressed − original, by metric
    std::map<std::string, Fidelity> fidelity;          ///< by output name
    std::optional<LatencyComparison> latency;  ///< `compressed` is empty (runs = 0) when there is one model
    std::optional<Energy> originalEnergy, compressedEnergy;
    /// One line each: outputs that are not finite, metrics that could not be computed and why, synthetic
    /// inputs.
    std::vector<std::string> notes;
};

enum class EnergyMethod {
    automatic,  ///< measured when the counters are readable, else modelled
    measured,   ///< DataError when the counters are not readable
    modelled,
    none,
};

struct EvaluateOptions {
    std::int64_t batchSize = 16;  ///< a first axis that the model's inputs fix takes precedence
    std::int64_t maxSamples = 0;  ///< 0 = all
    bool quality = true;          ///< task metrics and fidelity
    bool latency = true;
    std::int64_t latencyRuns = 30;
    std::int64_t latencyBatch = 1;  ///< samples of a timed run
    std::int64_t warmupRuns = 5;    ///< of each model, not counted
    EnergyMethod energy = EnergyMethod::automatic;
    double gridGramsPerKwh = 480.0;        ///< IEA world average 2023; stated in the report
    std::int64_t resamples = 2000;         ///< of the bootstrap
    std::int64_t neighbourSamples = 2048;  ///< neighbourAgreement is quadratic in the samples
    std::uint64_t seed = 42;               ///< of the bootstrap and of synthetic inputs
    Progress* progress = nullptr;          ///< null: silent
};

/// `compressed` may be null: then one model is evaluated by itself. `dataset` may be null: latency and energy
/// only, on synthetic inputs. The dataset is fitted to each model here. Both models run side by side, batch
/// by batch; beyond that, memory grows by a few numbers a sample and by the pooled rows of
/// neighbourAgreement. Throws DataError (data that do not fit) and KernelError (an operator that no kernel
/// runs).
Evaluation evaluate(const ir::Model& original, const ir::Model* compressed, const data::Dataset* dataset,
                    const EvaluateOptions& options);

/// original − compressed of "accuracy", or of "token_accuracy": what max_accuracy_drop limits. Empty without
/// labels.
std::optional<double> accuracyDrop(const Evaluation& evaluation);

}  // namespace tcompress::measure
