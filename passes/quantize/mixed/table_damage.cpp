#include "passes/quantize/mixed/table_damage.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/data/split.h"
#include "lib/ir/edit.h"
#include "passes/quantize/table/row_usage.h"

namespace tcompress::passes {
namespace {

constexpr std::size_t kFolds = 4;
/// Of a fold, so that four of them tell anything.
constexpr std::int64_t kFewestSamples = 4;
/// Of a fold, whose outputs are looked at.
constexpr std::int64_t kMostJudged = 64;

/// Samples spread evenly over the folds; none when they are too few.
std::vector<data::Dataset> foldsOf(data::Dataset rest) {
    std::vector<data::Dataset> folds;
    if (rest.sampleCount() < static_cast<std::int64_t>(kFolds) * kFewestSamples) return folds;
    for (std::size_t left = kFolds; left > 1; --left) {
        data::Split split = data::split(rest, 1.0 / static_cast<double>(left));
        folds.push_back(std::move(split.heldBack));
        rest = std::move(split.fit);
    }
    folds.push_back(std::move(rest));
    return folds;
}

}  // namespace

TableDamage::TableDamage(const ir::Model& model, const pipeline::PassContext& context, const std::string& pass,
                         const data::Dataset& samples)
    : model_(model), context_(context), pass_(pass), edited_(model.clone()), folds_(foldsOf(samples)) {
    for (const data::Dataset& fold : folds_)
        judges_.emplace_back(model, floatOutputs(model), fold.head(kMostJudged), context);
}

std::optional<double> TableDamage::factor(const TargetWeight& weight, const TieredQuantizer& table, double bytes,
                                          std::int64_t mostTables) {
    std::vector<std::vector<double>> counts;
    for (const data::Dataset& fold : folds_) counts.push_back(rowCounts(model_, context_, weight, fold));
    const std::vector<double> energies = rowEnergies(*weight.constant->constant());
    double damage = 0, error = 0;
    for (std::size_t fold = 0; fold < counts.size(); ++fold) {
        // The next fold is what the smoothing of the others' counts is chosen by.
        const std::size_t next = (fold + 1) % kFolds;
        std::vector<double> others(energies.size(), 0.0);
        for (std::size_t other = 0; other < kFolds; ++other)
            if (other != fold && other != next)
                std::transform(others.begin(), others.end(), counts[other].begin(), others.begin(), std::plus<>());
        const TieredQuantizer divided = table.usedBy(smoothedUsage(others, counts[next], energies));
        const auto plan = divided.plan(bytes, mostTables);
        if (!plan) return std::nullopt;
        error += plan->error;
        damage += this->damage(weight, divided.rowErrors(*plan), counts[fold], judges_[fold]);
    }
    if (!(error > 0)) return std::nullopt;
    return damage / error;
}

/// Of noise as large as `errors`, relative squared ones, in the rows that are looked up.
double TableDamage::damage(const TargetWeight& weight, const std::vector<double>& errors,
                           const std::vector<double>& counts, const OutputJudge& judge) {
    const std::string& name = weight.constant->name();
    const Tensor table = *weight.constant->constant();
    Tensor noisy = table;
    const auto values = noisy.mutableData<float>();
    const auto length = static_cast<std::size_t>(table.shape()[1]);
    Random random = context_.random(name + "/noise");
    std::vector<double> noise(length);
    for (std::size_t row = 0; row < errors.size(); ++row) {
        if (!(counts[row] > 0)) continue;
        const std::span<float> place = values.subspan(row * length, length);
        for (double& value : noise) value = random.normal();
        const double energy = std::inner_product(place.begin(), place.end(), place.begin(), 0.0);
        const double drawn = std::inner_product(noise.begin(), noise.end(), noise.begin(), 0.0);
        const double scale = std::sqrt(errors[row] * energy / drawn);
        for (std::size_t i = 0; i < length; ++i) place[i] += static_cast<float>(scale * noise[i]);
    }
    const auto put = [&](Tensor values) {
        ir::Edit edit(edited_, pass_);
        edit.setConstant(edited_.graph().find(name), std::move(values));
        edit.commit();
    };
    put(std::move(noisy));
    const double damage = judge.error(edited_);
    put(table);
    return damage;
}

}  // namespace tcompress::passes
