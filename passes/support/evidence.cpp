#include "passes/support/evidence.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/calibration/collector.h"
#include "lib/support/error.h"

namespace tcompress::passes {
namespace {

using calibration::Rows;
using calibration::Side;
using calibration::Source;

/// LayerSums of one query.
class LayerStatistic : public calibration::Statistic {
  public:
    LayerStatistic(const EvidenceQuery& edited, const ir::Value* output, const ir::Value* stream)
        : sources_{{edited.input, Side::edited}, {output, Side::original}} {
        if (edited.stream == nullptr || stream == nullptr) return;
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

    LayerSums sums{0, 0};

  private:
    std::vector<Source> sources_;
};

/// The same value in the other model; null when there is none.
const ir::Value* namesake(const ir::Model& reference, const ir::Value* value) {
    return value == nullptr ? nullptr : reference.graph().find(value->name());
}

std::vector<LayerSums> collectSums(const ir::Model& reference, const ir::Model& edited,
                                   const std::vector<EvidenceQuery>& queries, const data::Dataset& samples,
                                   Progress& progress) {
    calibration::Collector collector(reference, edited);
    std::vector<LayerStatistic*> statistics;
    for (const EvidenceQuery& query : queries) {
        const ir::Value* output = namesake(reference, query.output);
        if (output == nullptr)
            throw PassError(
                fmt::format("'{}' does not exist in the model to compare with", query.output->name()));
        statistics.push_back(&collector.add<LayerStatistic>(query, output, namesake(reference, query.stream)));
    }
    collector.run(samples, progress);
    std::vector<LayerSums> sums;
    for (std::size_t i = 0; i < queries.size(); ++i) {
        if (statistics[i]->sums.inputs == 0 && samples.sampleCount() > 0)
            throw PassError(
                fmt::format("'{}' did not run on the calibration data", queries[i].output->name()));
        sums.push_back(std::move(statistics[i]->sums));
    }
    return sums;
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
                                      Progress& progress) {
    std::vector<LayerSums> fit = collectSums(reference, edited, queries, samples.fit, progress);
    std::vector<LayerSums> held = collectSums(reference, edited, queries, samples.heldBack, progress);
    std::vector<Evidence> evidence;
    for (std::size_t i = 0; i < queries.size(); ++i)
        // Nothing is held back from very few samples: what was fitted then judges itself.
        evidence.push_back({fit[i], held[i].rows > 0 ? std::move(held[i]) : fit[i]});
    return evidence;
}

}  // namespace tcompress::passes
