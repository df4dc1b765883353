#include "passes/support/evidence.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/calibration/archive.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"
#include "lib/support/error.h"
#include "lib/support/heap.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;
using calibration::Rows;
using calibration::Side;
using calibration::Source;

/// LayerSums of one query.
class LayerStatistic : public calibration::Statistic {
  public:
    LayerStatistic(const EvidenceQuery& edited, const ir::Value* output, const ir::Value* stream, Side reference)
        : sources_{{edited.input, Side::edited}, {output, reference}} {
        // A model has no error beside itself.
        if (reference == Side::edited || edited.stream == nullptr || stream == nullptr) return;
        sources_.push_back({edited.stream, Side::edited});
        sources_.push_back({stream, Side::original});
    }

    std::vector<Source> sources() const override { return sources_; }

    void add(std::span<const Rows> rows) override {
        const Rows &x = rows[0], &y = rows[1];
        if (x.rows != y.rows)
            throw PassError(fmt::format("'{}' has other rows than in the model to compare with",
                                        sources_[1].value->name()));
        if (sums.inputs == 0) sums = LayerSums(x.channels, y.channels);
        std::vector<float> error;
        if (rows.size() == 4 && rows[2].values.size() == y.values.size() &&
            rows[3].values.size() == y.values.size()) {
            error.assign(rows[3].values.begin(), rows[3].values.end());
            for (std::size_t i = 0; i < error.size(); ++i) error[i] -= rows[2].values[i];
        }
        sums.add(x.values, y.values, error, x.rows);
    }

    std::string kind() const override { return "layer sums"; }
    void transfer(calibration::Archive& archive) override {
        archive(sums.inputs), archive(sums.outputs), archive(sums.rows);
        archive.symmetric(sums.xx, sums.inputs);
        archive(sums.xy), archive(sums.xe), archive(sums.x), archive(sums.y), archive(sums.e);
        archive(sums.yy), archive(sums.ye), archive(sums.ee);
    }

    LayerSums sums{0, 0};

  private:
    std::vector<Source> sources_;
};

/// The same value in the other model; null when there is none.
const ir::Value* namesake(const ir::Model& reference, const ir::Value* value) {
    return value == nullptr ? nullptr : reference.graph().find(value->name());
}

/// Outputs of the matrix that makes the value: what is known of it behind operators that types are not inferred through.
std::optional<std::int64_t> productWidth(const ir::Value& value) {
    const ir::Node* node = value.producer();
    if (node == nullptr || !(node->is("MatMul") || node->is("Gemm"))) return std::nullopt;
    const Tensor* matrix = node->input(1) == nullptr ? nullptr : node->input(1)->constant();
    if (matrix == nullptr || matrix->rank() != 2) return std::nullopt;
    return matrix->shape()[node->is("Gemm") && node->attributeInt("transB", 0) != 0 ? 0 : 1];
}

/// Sums of every query; `run` takes the collector over the samples. A model that is its own reference runs once.
template <class Run>
std::vector<LayerSums> collectSums(const ir::Model& reference, const ir::Model& edited,
                                   const std::vector<EvidenceQuery>& queries, std::int64_t sampleCount, Run run) {
    const bool isOne = &reference == &edited;
    calibration::Collector collector =
        isOne ? calibration::Collector(edited) : calibration::Collector(reference, edited);
    std::vector<LayerStatistic*> statistics;
    for (const EvidenceQuery& query : queries) {
        const ir::Value* output = namesake(reference, query.output);
        if (output == nullptr)
            throw PassError(
                fmt::format("'{}' does not exist in the model to compare with", query.output->name()));
        statistics.push_back(&collector.add<LayerStatistic>(query, output, namesake(reference, query.stream),
                                                            isOne ? Side::edited : Side::original));
    }
    run(collector);
    std::vector<LayerSums> sums;
    for (std::size_t i = 0; i < queries.size(); ++i) {
        if (statistics[i]->sums.inputs == 0 && sampleCount > 0)
            throw PassError(
                fmt::format("'{}' did not run on the calibration data", queries[i].output->name()));
        sums.push_back(std::move(statistics[i]->sums));
    }
    return sums;
}

std::vector<Evidence> evidenceOf(std::vector<LayerSums> fit, std::vector<LayerSums> held) {
    std::vector<Evidence> evidence;
    for (std::size_t i = 0; i < fit.size(); ++i) {
        // Nothing is held back from very few samples: what was fitted then judges itself.
        LayerSums judge = held[i].rows > 0 ? std::move(held[i]) : fit[i];
        evidence.push_back({std::move(fit[i]), std::move(judge)});
    }
    return evidence;
}

}  // namespace

EvidenceQuery evidenceQuery(const analysis::Site& site, const ir::Node* residualAdd) {
    EvidenceQuery query{site.input, site.output, nullptr};
    if (residualAdd == nullptr || residualAdd->inputs().size() < 2) return query;
    // The operand that is not made from the site's output, which lies a few nodes back at most (bias, reshape).
    const auto comesFromSite = [&](const ir::Value* value) {
        for (int step = 0; step < 4 && value != nullptr; ++step) {
            if (value == site.output) return true;
            if (value->producer() == nullptr) return false;
            const auto& inputs = value->producer()->inputs();
            const auto computed = std::find_if(inputs.begin(), inputs.end(), [](const ir::Value* input) {
                return input != nullptr && input->constant() == nullptr;
            });
            value = computed == inputs.end() ? nullptr : *computed;
        }
        return false;
    };
    ir::Value *const first = residualAdd->input(0), *const second = residualAdd->input(1);
    if (first == nullptr || second == nullptr) return query;
    if (comesFromSite(first) && !comesFromSite(second)) query.stream = second;
    if (comesFromSite(second) && !comesFromSite(first)) query.stream = first;
    // What enters the model has no error.
    if (query.stream != nullptr && query.stream->producer() == nullptr) query.stream = nullptr;
    return query;
}

std::vector<Evidence> collectEvidence(const ir::Model& reference, const ir::Model& edited,
                                      const std::vector<EvidenceQuery>& queries, const data::Split& samples,
                                      const calibration::Environment& environment) {
    const auto sums = [&](const data::Dataset& part) {
        return collectSums(reference, edited, queries, part.sampleCount(),
                           [&](calibration::Collector& collector) {
                               collector.run(part, environment.progress, environment.resources);
                           });
    };
    std::vector<LayerSums> fit = sums(samples.fit);
    return evidenceOf(std::move(fit), sums(samples.heldBack));
}

bool hasTarget(const ir::Model& reference, const EvidenceQuery& query) {
    const ir::Value* output = alike(reference, query.output);
    return output != nullptr && output->producer() != nullptr;
}

const ir::Value* alike(const ir::Model& reference, const ir::Value* value) {
    const ir::Value* found = namesake(reference, value);
    return found != nullptr && found->shape() == value->shape() && productWidth(*found) == productWidth(*value) ? found : nullptr;
}

namespace {

// Unrelated values of one size are at 2; what passes lose by then is well below.
constexpr double kUnrelated = 0.5;

bool meansTheSame(const ir::Model& original, const ir::Model& model, const std::vector<EvidenceQuery>& queries,
                  const data::Dataset& samples, const calibration::Environment& environment) {
    constexpr std::int64_t kEnough = 8;
    calibration::Collector collector(original, model);
    std::vector<const calibration::SimilaritySums*> sums;
    for (const EvidenceQuery& query : queries)
        sums.push_back(&collector.add<calibration::SimilaritySums>(
            Source{namesake(original, query.output), Side::original}, Source{query.output, Side::edited}));
    collector.run(samples.head(std::min(kEnough, samples.sampleCount())), environment.progress,
                  environment.resources);
    return std::all_of(sums.begin(), sums.end(),
                       [](const auto* sum) { return sum->result().relativeError() < kUnrelated; });
}

}  // namespace

ir::Model referenceFor(const ir::Model& model, const std::vector<EvidenceQuery>& queries,
                       const data::Dataset& samples, const pipeline::PassContext& context) {
    const ir::Model* original = context.original();
    if (original == nullptr) return model.clone();
    const bool fits = std::all_of(queries.begin(), queries.end(),
                                  [&](const EvidenceQuery& query) { return hasTarget(*original, query); });
    return fits && meansTheSame(*original, model, queries, samples, context.environment()) ? original->clone()
                                                                                          : model.clone();
}

namespace {

calibration::Stream streamOf(const ir::Model& reference, const ir::Model& edited, const data::Dataset& samples,
                             calibration::Resources resources) {
    resources.memoryLimitBytes = std::min(resources.memoryLimitBytes, kMemoryForRows);
    return &reference == &edited ? calibration::Stream(edited, samples, resources)
                                 : calibration::Stream(reference, edited, samples, resources);
}

}  // namespace

EvidenceWalk::EvidenceWalk(const ir::Model& reference, const ir::Model& edited, const TransformerView& view,
                           const data::Split& samples, const calibration::Environment& environment)
    : reference_(reference),
      edited_(edited),
      view_(view),
      progress_(environment.progress),
      fit_(streamOf(reference, edited, samples.fit, environment.resources)),
      held_(streamOf(reference, edited, samples.heldBack, environment.resources)) {}

std::vector<Evidence> EvidenceWalk::collect(const std::vector<EvidenceQuery>& queries) {
    const auto sums = [&](calibration::Stream& stream) {
        return collectSums(reference_, edited_, queries, stream.sampleCount(),
                           [&](calibration::Collector& collector) { collector.run(stream, progress_); });
    };
    std::vector<LayerSums> fit = sums(fit_);
    return evidenceOf(std::move(fit), sums(held_));
}

void EvidenceWalk::advanceTo(int block) {
    if (block <= block_) return;
    const ir::Value* input = view_.blocks[static_cast<std::size_t>(block)].input;
    if (input == nullptr || input->producer() == nullptr) return;
    const ir::Value* before = namesake(reference_, input);
    if (before == nullptr || before->producer() == nullptr) return;
    block_ = block;
    calibration::Cut cut{{input}, {before}};
    if (&reference_ == &edited_) cut.original.clear();
    for (calibration::Stream* stream : {&fit_, &held_})
        if (stream->sampleCount() > 0) stream->moveTo(cut);
    // Solutions of the layers passed took matrices of many sizes.
    trimHeap();
}

int EvidenceWalk::blockOf(const analysis::Site& site) const {
    if (site.block >= 0) return site.block;
    int block = 0;
    for (std::size_t i = 0; i < view_.blocks.size(); ++i) {
        const ir::Value* input = view_.blocks[i].input;
        if (input != nullptr && input->producer() != nullptr &&
            input->producer()->position() < site.node->position())
            block = static_cast<int>(i);
    }
    return block;
}

}  // namespace tcompress::passes
