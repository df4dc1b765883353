#include "lib/measure/task.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "lib/support/check.h"

namespace tcompress::measure {
namespace {

/// How many classes score higher than the label (equal scores: those before it).
std::int64_t rankOf(std::span<const float> row, std::size_t label) {
    std::int64_t rank = 0;
    for (std::size_t i = 0; i < row.size(); ++i)
        rank += row[i] > row[label] || (row[i] == row[label] && i < label);
    return rank;
}

constexpr std::int64_t topClasses = 5;

}  // namespace

void TaskScores::add(const Tensor& logits, std::span<const std::int64_t> labels) {
    const std::int64_t batch = logits.shape()[0];
    classes_ = logits.shape().back();
    tokens_ = logits.rank() == 3;
    const std::int64_t rowsEach = tokens_ ? logits.shape()[1] : 1;
    TCOMPRESS_CHECK(static_cast<std::int64_t>(labels.size()) == batch * rowsEach, "one label a row");

    const FloatView view(logits);
    std::vector<double> logs(static_cast<std::size_t>(classes_));
    for (std::int64_t sample = 0; sample < batch; ++sample) {
        double rows = 0, correctSum = 0, top5Sum = 0, lossSum = 0;
        for (std::int64_t t = 0; t < rowsEach; ++t) {
            const std::int64_t index = sample * rowsEach + t;
            const std::int64_t label = labels[static_cast<std::size_t>(index)];
            const auto row = view.part(index, batch * rowsEach);
            const std::int64_t prediction = argmax(row);
            if (!tokens_) {
                label_.push_back(static_cast<std::int32_t>(label));
                prediction_.push_back(static_cast<std::int32_t>(prediction));
            }
            if (label == ignoredLabel) continue;
            logProbabilities(row, kind_, logs);
            const double loss = -logs[static_cast<std::size_t>(label)];
            rows += 1;
            correctSum += prediction == label;
            top5Sum += prediction >= 0 && rankOf(row, static_cast<std::size_t>(label)) < topClasses;
            lossSum += loss;
            correct_.push_back(prediction == label);
            loss_.push_back(static_cast<float>(loss));
        }
        rows_.push_back(rows);
        correctSum_.push_back(correctSum);
        top5Sum_.push_back(top5Sum);
        lossSum_.push_back(lossSum);
    }
}

double TaskScores::meanOf(const std::vector<double>& sums, std::span<const std::int32_t> samples) const {
    double sum = 0, rows = 0;
    for (const std::int32_t sample : samples) {
        sum += sums[static_cast<std::size_t>(sample)];
        rows += rows_[static_cast<std::size_t>(sample)];
    }
    return rows > 0 ? sum / rows : 0;
}

double TaskScores::macroF1(std::span<const std::int32_t> samples) const {
    struct Counts {
        std::int64_t hits = 0, predicted = 0, labelled = 0;
    };
    std::vector<Counts> counts(static_cast<std::size_t>(classes_));
    for (const std::int32_t sample : samples) {
        const std::int32_t label = label_[static_cast<std::size_t>(sample)];
        const std::int32_t prediction = prediction_[static_cast<std::size_t>(sample)];
        if (label == ignoredLabel) continue;
        ++counts[static_cast<std::size_t>(label)].labelled;
        if (prediction >= 0) ++counts[static_cast<std::size_t>(prediction)].predicted;
        if (prediction == label) ++counts[static_cast<std::size_t>(label)].hits;
    }
    double sum = 0, classes = 0;
    for (const Counts& c : counts) {
        if (c.predicted + c.labelled == 0) continue;
        sum += 2.0 * static_cast<double>(c.hits) / static_cast<double>(c.predicted + c.labelled);
        classes += 1;
    }
    return classes > 0 ? sum / classes : 0;
}

std::vector<TaskScores::Metric> TaskScores::definitions() const {
    using Samples = std::span<const std::int32_t>;
    std::vector<Metric> metrics;
    metrics.push_back(
        {tokens_ ? "token_accuracy" : "accuracy", [this](Samples s) { return meanOf(correctSum_, s); }});
    metrics.push_back({"cross_entropy", [this](Samples s) { return meanOf(lossSum_, s); }});
    if (tokens_) {
        metrics.push_back({"perplexity", [this](Samples s) { return std::exp(meanOf(lossSum_, s)); }});
        return metrics;
    }
    if (classes_ > topClasses) metrics.push_back({"top5", [this](Samples s) { return meanOf(top5Sum_, s); }});
    metrics.push_back({"f1", [this](Samples s) { return macroF1(s); }});
    return metrics;
}

TaskMetrics TaskScores::metrics(const Bootstrap& options) const {
    TaskMetrics result;
    result.output = output_;
    result.correct = correct_;
    result.loss = loss_;
    const auto rows = static_cast<std::int64_t>(correct_.size());
    if (rows == 0) return result;
    for (const Metric& metric : definitions()) {
        const auto share = [&](const std::vector<double>& sums) {
            double sum = 0;
            for (const double value : sums) sum += value;
            return wilson(static_cast<std::int64_t>(sum), rows);
        };
        Estimate& estimate = result.metrics[metric.name];
        if (metric.name == "accuracy") {
            estimate = share(correctSum_);
        } else if (metric.name == "top5") {
            estimate = share(top5Sum_);
        } else {
            estimate = bootstrap(static_cast<std::int64_t>(rows_.size()), metric.statistic, options);
            estimate.samples = rows;
        }
    }
    return result;
}

std::map<std::string, Estimate> TaskScores::difference(const TaskScores& original,
                                                       const TaskScores& compressed,
                                                       const Bootstrap& options) {
    TCOMPRESS_CHECK(original.rows_ == compressed.rows_, "both models saw the same samples");
    std::map<std::string, Estimate> differences;
    if (original.correct_.empty()) return differences;
    const auto before = original.definitions(), after = compressed.definitions();
    for (std::size_t i = 0; i < before.size() && i < after.size(); ++i) {
        if (before[i].name != after[i].name) continue;
        Estimate estimate = bootstrap(
            static_cast<std::int64_t>(original.rows_.size()),
            [&](std::span<const std::int32_t> samples) {
                return after[i].statistic(samples) - before[i].statistic(samples);
            },
            options);
        estimate.samples = static_cast<std::int64_t>(original.correct_.size());
        differences.emplace(before[i].name, estimate);
    }
    return differences;
}

PairedCounts TaskScores::pairedCounts(const TaskScores& original, const TaskScores& compressed) {
    TCOMPRESS_CHECK(original.correct_.size() == compressed.correct_.size(),
                    "both models saw the same samples");
    PairedCounts counts;
    for (std::size_t i = 0; i < original.correct_.size(); ++i) {
        const bool before = original.correct_[i], after = compressed.correct_[i];
        ++(before  ? after ? counts.bothCorrect : counts.onlyOriginal
           : after ? counts.onlyCompressed
                   : counts.bothWrong);
    }
    counts.pValue = mcnemarPValue(counts.onlyOriginal, counts.onlyCompressed);
    return counts;
}

const NamedOutput* outputForLabels(const std::vector<NamedOutput>& outputs, const Tensor& labels,
                                   std::int64_t largestLabel, std::string& reason) {
    if (!isInteger(labels.dtype()) || labels.rank() < 1 || labels.rank() > 2) {
        reason = fmt::format("labels are {} {}; class numbers of rank 1 or 2 are understood",
                             name(labels.dtype()), toString(labels.shape()));
        return nullptr;
    }
    std::vector<const NamedOutput*> fitting, logits;
    std::string seen;
    for (const NamedOutput& output : outputs) {
        const Shape& shape = output.tensor->shape();
        seen += fmt::format("{}'{}' {}", seen.empty() ? "" : ", ", output.name, toString(shape));
        if (!isFloatingPoint(output.tensor->dtype()) || output.tensor->rank() != labels.rank() + 1) continue;
        if (!std::equal(labels.shape().begin(), labels.shape().end(), shape.begin())) continue;
        if (shape.back() < 2 || shape.back() <= largestLabel) continue;
        std::string lower = output.name;
        std::transform(lower.begin(), lower.end(), lower.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const auto named = [&](std::string_view word) { return lower.find(word) != std::string::npos; };
        if (named("logit")) logits.push_back(&output);
        if (named("hidden") || named("embed") || named("pool") || named("present") || named("past")) continue;
        fitting.push_back(&output);
    }
    if (logits.size() == 1) return logits.front();
    if (logits.empty() && fitting.size() == 1) return fitting.front();
    if (fitting.size() > 1) {
        reason =
            fmt::format("more than one output could hold the scores ({}); name one of them 'logits'", seen);
    } else {
        reason = fmt::format("no output holds scores for labels {} with {} classes or more (outputs: {})",
                             toString(labels.shape()), std::max<std::int64_t>(largestLabel + 1, 2), seen);
    }
    return nullptr;
}

}  // namespace tcompress::measure
