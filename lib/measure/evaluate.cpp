#include "lib/measure/evaluate.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <set>
#include <string_view>

#include "lib/analysis/cost.h"
#include "lib/analysis/transformer_view.h"
#include "lib/data/inputs.h"
#include "lib/exec/fitting_executor.h"
#include "lib/measure/energy.h"
#include "lib/measure/fidelity.h"
#include "lib/measure/latency.h"
#include "lib/measure/padding.h"
#include "lib/measure/rows.h"
#include "lib/measure/task.h"
#include "lib/support/error.h"
#include "lib/tensor/finite.h"

namespace tcompress::measure {
namespace {

/// One model with its data and its plan.
struct Side {
    Side(const ir::Model& itsModel, const data::Dataset& dataset, std::string_view itsTitle)
        : model(itsModel), title(itsTitle), data(data::fitToModel(dataset, itsModel)), executor(itsModel), padding(itsModel) {
        for (const ir::Value* output : itsModel.graph().outputs()) outputNames.push_back(output->name());
    }

    const ir::Model& model;
    std::string title;
    data::Dataset data;
    exec::FittingExecutor executor;
    PaddingCut padding;
    std::vector<std::string> outputNames;
    std::optional<TaskScores> task;
    std::map<std::string, std::int64_t> notFinite;  ///< samples by output
};

std::vector<NamedOutput> named(const Side& side, const std::vector<Tensor>& outputs) {
    std::vector<NamedOutput> result;
    for (std::size_t i = 0; i < outputs.size(); ++i) result.push_back({side.outputNames[i], &outputs[i]});
    return result;
}

const Tensor* find(const Side& side, const std::vector<Tensor>& outputs, std::string_view name) {
    for (std::size_t i = 0; i < outputs.size(); ++i)
        if (side.outputNames[i] == name) return &outputs[i];
    return nullptr;
}

/// The mask that says which positions of [N, T, C] outputs are tokens; null when the model takes none.
const Tensor* tokenMask(const std::map<std::string, Tensor>& feeds) {
    for (const char* name : {"attention_mask", "input_mask", "decoder_attention_mask"})
        if (const auto found = feeds.find(name); found != feeds.end() && found->second.rank() == 2)
            return &found->second;
    return nullptr;
}

/// Feeds outputs of both models to the scores, batch by batch.
class Quality {
  public:
    Quality(Side& original, Side* compressed, const std::optional<Tensor>& labels,
            const EvaluateOptions& options, Evaluation& result)
        : original_(original), compressed_(compressed), options_(options), result_(result) {
        if (labels) labels_ = *labels;
        // Labels of tokens are as many as the data's columns.
        if (labels_.rank() > 1) cutting_ = Cutting::refused;
    }

    void run(std::int64_t samples, std::int64_t batchSize) {
        Progress& progress = options_.progress != nullptr ? *options_.progress : silentProgress();
        progress.begin("evaluate", samples);
        for (std::int64_t begin = 0; begin < samples; begin += batchSize) {
            const std::int64_t end = std::min(begin + batchSize, samples);
            batch(begin, end);
            progress.step(end - begin);
        }
        progress.end();
        finish(samples);
    }

  private:
    /// The feeds of one side, and the same without columns of padding.
    struct Batch {
        exec::Feeds whole;
        std::optional<exec::Feeds> cut;
    };
    static Batch batchOf(const Side& side, std::int64_t begin, std::int64_t end) {
        Batch batch{side.data.rows(begin, end), std::nullopt};
        batch.cut = side.padding.cut(batch.whole);
        return batch;
    }

    /// Outputs of the whole batch, which tell whether batches may be cut from now on.
    static bool isFaithful(Side& side, const Batch& batch, const std::vector<Tensor>& outputs) {
        return side.padding.isFaithful(batch.whole, outputs, side.executor.run(*batch.cut));
    }

    void batch(std::int64_t begin, std::int64_t end) {
        const Batch first = batchOf(original_, begin, end);
        const Batch second = compressed_ != nullptr ? batchOf(*compressed_, begin, end) : first;
        const bool mayCut = first.cut && second.cut && cutting_ != Cutting::refused;
        const bool isCut = mayCut && cutting_ == Cutting::faithful;
        const exec::Feeds& feeds = isCut ? *first.cut : first.whole;
        const std::vector<Tensor> before = original_.executor.run(feeds);
        std::vector<Tensor> after;
        if (compressed_ != nullptr) after = compressed_->executor.run(isCut ? *second.cut : second.whole);
        if (mayCut && !isCut) {
            const bool isFine = isFaithful(original_, first, before) &&
                                (compressed_ == nullptr || isFaithful(*compressed_, second, after));
            cutting_ = isFine ? Cutting::faithful : Cutting::refused;
        }
        countNotFinite(original_, before);
        if (compressed_ != nullptr) countNotFinite(*compressed_, after);
        if (begin == 0) start(before, after, end);
        addTask(original_, before, begin, end);
        if (compressed_ != nullptr) {
            addTask(*compressed_, after, begin, end);
            addFidelity(before, after, tokenMask(feeds));
        }
    }

    void note(std::string text) { result_.notes.push_back(std::move(text)); }

    void countNotFinite(Side& side, const std::vector<Tensor>& outputs) const {
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const Tensor& output = outputs[i];
            if (!isFloatingPoint(output.dtype()) || output.rank() == 0 || output.size() == 0) continue;
            const FloatView view(output);
            for (std::int64_t sample = 0; sample < output.shape()[0]; ++sample) {
                if (!allFinite(view.part(sample, output.shape()[0]))) ++side.notFinite[side.outputNames[i]];
            }
        }
    }

    /// The first batch shows what can be measured.
    void start(const std::vector<Tensor>& before, const std::vector<Tensor>& after, std::int64_t batch) {
        std::string taskOutput;
        if (labels_.rank() > 0) taskOutput = startTask(before, after, batch);
        if (compressed_ == nullptr) return;
        for (const NamedOutput& output : named(original_, before)) {
            const Tensor& tensor = *output.tensor;
            if (!isFloatingPoint(tensor.dtype()) || tensor.size() == 0) continue;
            const Tensor* other = find(*compressed_, after, output.name);
            if (other == nullptr) {
                note(fmt::format("output '{}' is not in the compressed model and was not compared",
                                 output.name));
            } else if (other->shape() != tensor.shape()) {
                note(fmt::format("output '{}' was {} and is {} now; it was not compared", output.name,
                                 toString(tensor.shape()), toString(other->shape())));
            } else if (tensor.rank() == 0 || tensor.shape()[0] != batch) {
                note(fmt::format("output '{}' {} has no axis of samples and was not compared", output.name,
                                 toString(tensor.shape())));
            } else {
                ScoreKind kind = scoreKind(output.name, tensor);
                if (kind == ScoreKind::none && output.name == taskOutput) kind = ScoreKind::logits;
                fidelity_.emplace(output.name, FidelityScores(kind, options_.neighbourSamples));
            }
        }
    }

    std::string startTask(const std::vector<Tensor>& before, const std::vector<Tensor>& after,
                          std::int64_t batch) {
        std::string reason;
        const NamedOutput* output = nullptr;
        const auto outputs = named(original_, before);
        if (!isInteger(labels_.dtype()) || labels_.rank() > 2) {
            output = outputForLabels(outputs, labels_, 0, reason);
        } else {
            labelValues_ = toInt64(labels_);
            std::int64_t largest = 0;
            for (std::size_t i = 0; i < labelValues_.size(); ++i) {
                if (labelValues_[i] < 0 && labelValues_[i] != ignoredLabel)
                    throw DataError(fmt::format(
                        "{}: label {} at position {} is no class; classes count from 0, {} is ignored",
                        result_.dataOrigin, labelValues_[i], i, ignoredLabel));
                largest = std::max(largest, labelValues_[i]);
            }
            Shape shape = labels_.shape();
            shape[0] = batch;
            output = outputForLabels(outputs, Tensor(labels_.dtype(), shape), largest, reason);
        }
        if (output == nullptr) {
            note("no task metrics: " + reason);
            return {};
        }
        const ScoreKind guess = scoreKind(output->name, *output->tensor);
        const ScoreKind kind = guess == ScoreKind::none ? ScoreKind::logits : guess;
        if (compressed_ != nullptr) {
            const Tensor* other = find(*compressed_, after, output->name);
            if (other == nullptr || other->shape() != output->tensor->shape()) {
                note(fmt::format("no task metrics: output '{}' is not the same in the compressed model",
                                 output->name));
                return {};
            }
            compressed_->task.emplace(output->name, kind);
        }
        original_.task.emplace(output->name, kind);
        taskOutput_ = output->name;
        return output->name;
    }

    void addTask(Side& side, const std::vector<Tensor>& outputs, std::int64_t begin, std::int64_t end) const {
        if (!side.task) return;
        const std::size_t each = labelValues_.size() / static_cast<std::size_t>(labels_.shape()[0]);
        side.task->add(*find(side, outputs, taskOutput_),
                       std::span(labelValues_)
                           .subspan(static_cast<std::size_t>(begin) * each,
                                    static_cast<std::size_t>(end - begin) * each));
    }

    void addFidelity(const std::vector<Tensor>& before, const std::vector<Tensor>& after,
                     const Tensor* mask) {
        const std::vector<std::int64_t> maskValues =
            mask != nullptr ? toInt64(*mask) : std::vector<std::int64_t>();
        for (auto scores = fidelity_.begin(); scores != fidelity_.end();) {
            const Tensor& a = *find(original_, before, scores->first);
            const Tensor& b = *find(*compressed_, after, scores->first);
            if (a.shape() != b.shape()) {
                note(fmt::format(
                    "output '{}' has shapes that depend on the data ({} and {}); it was not compared",
                    scores->first, toString(a.shape()), toString(b.shape())));
                scores = fidelity_.erase(scores);
                continue;
            }
            const bool masked = mask != nullptr && a.rank() == 3 && a.shape()[0] == mask->shape()[0] &&
                                a.shape()[1] == mask->shape()[1];
            scores->second.add(
                a, b, masked ? std::span<const std::int64_t>(maskValues) : std::span<const std::int64_t>());
            ++scores;
        }
    }

    void finish(std::int64_t samples) {
        const Bootstrap bootstrap{options_.resamples, options_.seed};
        if (original_.task) {
            result_.originalTask = original_.task->metrics(bootstrap);
            if (result_.originalTask->metrics.empty())
                note(fmt::format("no task metrics: every label is {}, which is ignored", ignoredLabel));
        } else if (labels_.rank() == 0 && compressed_ == nullptr) {
            note("no task metrics: the data hold no labels; they would be an array 'labels'");
        }
        if (compressed_ != nullptr && compressed_->task) {
            result_.compressedTask = compressed_->task->metrics(bootstrap);
            result_.pairedDifference = TaskScores::difference(*original_.task, *compressed_->task, bootstrap);
            result_.pairedCounts = TaskScores::pairedCounts(*original_.task, *compressed_->task);
        }
        for (const auto& [name, scores] : fidelity_) result_.fidelity.emplace(name, scores.result(bootstrap));
        for (const Side* side : {&original_, compressed_})
            if (side != nullptr)
                for (const auto& [name, count] : side->notFinite)
                    note(fmt::format("{} model: output '{}' holds NaN or infinity for {} of {} samples",
                                     side->title, name, count, samples));
    }

    Side& original_;
    Side* compressed_;
    const EvaluateOptions& options_;
    Evaluation& result_;
    enum class Cutting { untried, faithful, refused } cutting_ = Cutting::untried;
    Tensor labels_;
    std::vector<std::int64_t> labelValues_;
    std::string taskOutput_;
    std::map<std::string, FidelityScores> fidelity_;
};

/// Tokens (or whatever the first dynamic axis behind the samples counts) of one sample; 0 when every axis is
/// fixed.
std::int64_t sampleLength(const Side& side) {
    for (const data::InputInfo& input : data::modelInputs(side.model))
        for (std::size_t axis = 1; axis < input.dims.size(); ++axis)
            if (input.dims[axis].size < 0 && data::inputRole(input.name) != data::InputRole::pastKeyValue)
                return side.data.arrays().at(input.name).shape()[axis];
    return 0;
}

class Cost {
  public:
    Cost(Side& original, Side* compressed, const EvaluateOptions& options, Evaluation& result)
        : original_(original), compressed_(compressed), options_(options), result_(result) {}

    void latency(std::int64_t batch) {
        LatencyPlan plan{options_.latencyRuns, options_.warmupRuns, batch, options_.resamples, options_.seed};
        result_.latency =
            timeInTurns(inference(original_, batch),
                        compressed_ != nullptr ? inference(*compressed_, batch) : nullptr, plan);
    }

    /// Otherwise a run's time and energy are those of packing weights.
    bool keepsWeights() const {
        return original_.executor.keepsWeights() && (compressed_ == nullptr || compressed_->executor.keepsWeights());
    }

    void energy(std::int64_t batch) {
        std::optional<RaplCounters> counters;
        if (options_.energy != EnergyMethod::modelled && keepsWeights()) counters = RaplCounters::open();
        if (options_.energy == EnergyMethod::measured && !counters)
            throw DataError(
                "energy cannot be measured: no readable RAPL package counter under /sys/class/powercap; use "
                "energy 'modelled' or run with the right to read it");
        result_.originalEnergy = of(original_, counters, batch);
        if (compressed_ != nullptr) result_.compressedEnergy = of(*compressed_, counters, batch);
    }

  private:
    static std::function<void()> inference(Side& side, std::int64_t batch) {
        return [&side, feeds = side.data.rows(0, batch)] { side.executor.run(feeds); };
    }

    Energy of(Side& side, const std::optional<RaplCounters>& counters, std::int64_t batch) const {
        if (counters)
            return measuredEnergy(*counters, inference(side, batch), batch, options_.gridGramsPerKwh);
        const std::int64_t length = sampleLength(side);
        const auto view = analysis::recognise(side.model);
        const auto cost =
            length > 0 ? analysis::cost(side.model, view, length) : analysis::cost(side.model, view);
        return modelledEnergy(cost, weightBytesRead(side.model, std::max<std::int64_t>(length, 1)),
                              options_.gridGramsPerKwh);
    }

    Side& original_;
    Side* compressed_;
    const EvaluateOptions& options_;
    Evaluation& result_;
};

}  // namespace

Evaluation evaluate(const ir::Model& original, const ir::Model* compressed, const data::Dataset* dataset,
                    const EvaluateOptions& options) {
    Evaluation result;
    const std::int64_t fixedBatch = data::fixedBatchSize(original);
    std::int64_t latencyBatch = fixedBatch > 0 ? fixedBatch : std::max<std::int64_t>(options.latencyBatch, 1);

    data::Dataset data =
        dataset != nullptr ? *dataset : data::syntheticDataset(original, latencyBatch, options.seed);
    if (options.maxSamples > 0) data = data.head(options.maxSamples);
    result.dataOrigin = data.origin();
    if (data.sampleCount() < fixedBatch)
        throw DataError(fmt::format("{}: {} samples, the model's inputs are fixed to {} at once",
                                    data.origin(), data.sampleCount(), fixedBatch));
    latencyBatch = std::min(latencyBatch, data.sampleCount());

    Side before(original, data, "original");
    std::optional<Side> after;
    if (compressed != nullptr) after.emplace(*compressed, data, "compressed");
    Side* afterSide = after ? &*after : nullptr;

    if (dataset == nullptr) {
        result.notes.push_back("latency and energy are on synthetic inputs");
    } else if (options.quality) {
        result.batchSize = fixedBatch > 0 ? fixedBatch : std::max<std::int64_t>(options.batchSize, 1);
        result.samples = data.sampleCount() - (fixedBatch > 0 ? data.sampleCount() % fixedBatch : 0);
        if (result.samples < data.sampleCount())
            result.notes.push_back(
                fmt::format("the last {} samples do not fill the model's fixed batch of {} and were left out",
                            data.sampleCount() - result.samples, fixedBatch));
        Quality(before, afterSide, data.labels(), options, result).run(result.samples, result.batchSize);
    }
    Cost cost(before, afterSide, options, result);
    if (!cost.keepsWeights())
        result.notes.push_back(fmt::format("the weights do not fit into the free memory{}: they were read again for each batch, and "
                                           "latency was not measured",
                                           after ? " together" : ""));
    if (options.latency && options.latencyRuns > 0 && cost.keepsWeights()) cost.latency(latencyBatch);
    if (options.energy != EnergyMethod::none) cost.energy(latencyBatch);
    return result;
}

std::optional<double> accuracyDrop(const Evaluation& evaluation) {
    if (!evaluation.originalTask || !evaluation.compressedTask) return std::nullopt;
    for (const char* name : {"accuracy", "token_accuracy"}) {
        const auto before = evaluation.originalTask->metrics.find(name);
        const auto after = evaluation.compressedTask->metrics.find(name);
        if (before != evaluation.originalTask->metrics.end() &&
            after != evaluation.compressedTask->metrics.end())
            return before->second.value - after->second.value;
    }
    return std::nullopt;
}

}  // namespace tcompress::measure
