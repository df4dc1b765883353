#pragma once
// Task metrics: what a model gets right on labelled data, sample by sample, so that two models can be
// compared pair by pair.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/measure/evaluate.h"
#include "lib/measure/rows.h"
#include "lib/measure/statistics.h"

namespace tcompress::measure {

/// One model's outcomes on every sample seen so far.
class TaskScores {
  public:
    TaskScores(std::string output, ScoreKind kind) : output_(std::move(output)), kind_(kind) {}

    /// One batch: labels [B] with logits [B, C], or labels [B, T] with logits [B, T, C].
    void add(const Tensor& logits, std::span<const std::int64_t> labels);

    TaskMetrics metrics(const Bootstrap& options) const;

    /// compressed − original by metric, bootstrapped over pairs of samples.
    static std::map<std::string, Estimate> difference(const TaskScores& original,
                                                      const TaskScores& compressed, const Bootstrap& options);
    static PairedCounts pairedCounts(const TaskScores& original, const TaskScores& compressed);

  private:
    struct Metric {
        std::string name;
        Statistic statistic;
    };
    /// The metrics that these labels allow, over any multiset of samples.
    std::vector<Metric> definitions() const;
    double macroF1(std::span<const std::int32_t> samples) const;
    double meanOf(const std::vector<double>& sums, std::span<const std::int32_t> samples) const;

    std::string output_;
    ScoreKind kind_;
    bool tokens_ = false;
    std::int64_t classes_ = 0;
    // By sample.
    std::vector<double> rows_, correctSum_, top5Sum_, lossSum_;
    std::vector<std::int32_t> label_, prediction_;  // of rank-1 labels
    // By row (sample or token that is not ignored).
    std::vector<bool> correct_;
    std::vector<float> loss_;
};

/// Label that says: no prediction is asked here (PyTorch's CrossEntropyLoss default).
inline constexpr std::int64_t ignoredLabel = -100;

struct NamedOutput {
    std::string name;
    const Tensor* tensor = nullptr;
};

/// The output that holds the scores that `labels` (of the batch that made the outputs) judge, or null with a
/// reason that fits a report. `largestLabel` is over the whole dataset. Only an output of matching shape
/// qualifies, and hidden states, embeddings and caches never do; one named "…logit…" is preferred.
const NamedOutput* outputForLabels(const std::vector<NamedOutput>& outputs, const Tensor& labels,
                                   std::int64_t largestLabel, std::string& reason);

}  // namespace tcompress::measure
