// Sets the smallest weights to zero: single ones, N of every M, or whole blocks. Shapes stay; zeros are
// stored like any other value, so the file does not shrink by itself.
//
//   structure unstructured   the given share of the smallest |w|, of each tensor or of all together
//   structure N:M            of every M weights in a row along the input axis the N largest stay (2:4, 4:8 …)
//   structure blockRxC       blocks of R inputs × C outputs by their norm
//
// Sources: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks"; N:M:
// Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks". What remains is not adjusted. Embedding
// tables are pruned only when targets name them.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "lib/ir/edit.h"
#include "passes/passes.h"
#include "passes/support/sparse_obs.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "prune/magnitude";

enum class Norm { l1, l2 };
enum class Scope { tensor, global };

struct Options {
    std::optional<double> sparsity, threshold;
    std::string structure = "unstructured";
    Norm norm = Norm::l2;
    Scope scope = Scope::tensor;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("sparsity", &Options::sparsity, "share of the weights (or blocks) to set to zero")
        .range(0.0, 1.0)
        .option("threshold", &Options::threshold, "set to zero what is smaller than this (a block: its norm)")
        .range(0.0, 1e30)
        .option("structure", &Options::structure,
                "unstructured, N:M (2:4 keeps 2 of every 4 along the input axis), or blockRxC (R inputs × C "
                "outputs)")
        .choice("norm", &Options::norm, {{"l1", Norm::l1}, {"l2", Norm::l2}}, "norm that ranks blocks")
        .choice("scope", &Options::scope, {{"tensor", Scope::tensor}, {"global", Scope::global}},
                "take the share from every tensor, or the smallest of the whole model")
        .option("targets", &Options::targets, "sites to prune, by patterns; embeddings only when named")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const auto pattern = parseSparsePattern(options.structure);
    if (!pattern) {
        diagnostics.add(
            pointer + "/structure",
            fmt::format("'{}' is not unstructured, neuron, N:M with 0 < N < M (2:4), or blockRxC (block4x1)",
                        options.structure));
        return;
    }
    const bool one = options.sparsity.has_value() != options.threshold.has_value();
    if (pattern->isGrouped() ? options.sparsity || options.threshold : !one)
        diagnostics.add(pointer,
                        pattern->isGrouped()
                            ? fmt::format("structure {} says how much goes; leave sparsity and threshold out",
                                          options.structure)
                            : "prune by magnitude needs either sparsity or threshold");
}

/// One weight cut into blocks, each with its score.
struct Candidate {
    const TargetWeight* weight = nullptr;
    Tensor values;
    std::vector<float> scores;
    std::vector<bool> prune;
};

/// Where the elements of a weight lie, seen as inputs × outputs (anything that is no matrix: one row).
struct Grid {
    std::int64_t inputs = 1, outputs = 1, inputStride = 0, outputStride = 1;

    Grid(const TargetWeight& weight, const Tensor& values) : outputs(values.size()) {
        if (values.rank() != 2) return;
        inputs = values.shape()[weight.inAxis];
        outputs = values.shape()[weight.outAxis];
        inputStride = weight.inAxis == 0 ? values.shape()[1] : 1;
        outputStride = weight.inAxis == 0 ? 1 : values.shape()[1];
    }
    std::size_t at(std::int64_t input, std::int64_t output) const {
        return static_cast<std::size_t>(input * inputStride + output * outputStride);
    }
};

class PruneMagnitude : public pipeline::Pass {
  public:
    explicit PruneMagnitude(Options options)
        : options_(std::move(options)), pattern_(*parseSparsePattern(options_.structure)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = targetWeights(
            context.view(model), {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}, report);
        std::vector<Candidate> candidates;
        for (const TargetWeight& weight : weights) {
            Candidate candidate{&weight, *weight.constant->constant(), {}, {}};
            if (const std::string reason = refusal(weight, candidate.values); !reason.empty())
                skip(report, weight, reason);
            else
                candidates.push_back(std::move(candidate));
        }
        choose(candidates);
        ir::Edit edit(model, kPass);
        for (Candidate& candidate : candidates) apply(edit, candidate, report);
        if (edit.empty()) return report;
        edit.commit();
        report.notes.emplace_back(kZerosTakeBytes);
        return report;
    }

  private:
    std::string refusal(const TargetWeight& weight, const Tensor& values) const {
        const auto data = values.data<float>();
        if (std::any_of(data.begin(), data.end(), [](float value) { return std::isnan(value); }))
            return "its weight holds NaN";
        if (pattern_.inputStep() * pattern_.outputs == 1) return {};
        if (values.rank() != 2)
            return fmt::format("structure {} needs a matrix, its weight has rank {}", options_.structure,
                               values.rank());
        const Shape& shape = values.shape();
        return patternRefusal(pattern_, shape[weight.inAxis], shape[weight.outAxis]);
    }

    void choose(std::vector<Candidate>& candidates) const {
        for (Candidate& candidate : candidates) {
            if (pattern_.isGrouped()) {
                chooseGrouped(candidate);
                continue;
            }
            score(candidate);
            if (options_.threshold)
                for (std::size_t i = 0; i < candidate.scores.size(); ++i)
                    candidate.prune[i] = candidate.scores[i] < static_cast<float>(*options_.threshold);
            else if (options_.scope == Scope::tensor)
                chooseSmallest({&candidate});
        }
        if (pattern_.isGrouped() || options_.threshold || options_.scope == Scope::tensor) return;
        std::vector<Candidate*> all;
        for (Candidate& candidate : candidates) all.push_back(&candidate);
        chooseSmallest(all);
    }

    /// Block norms, in blocks along the outputs first.
    void score(Candidate& candidate) const {
        const Grid grid(*candidate.weight, candidate.values);
        const auto values = candidate.values.data<float>();
        for (std::int64_t input = 0; input < grid.inputs; input += pattern_.inputs)
            for (std::int64_t output = 0; output < grid.outputs; output += pattern_.outputs) {
                double sum = 0;
                for (std::int64_t i = input; i < input + pattern_.inputs; ++i)
                    for (std::int64_t o = output; o < output + pattern_.outputs; ++o) {
                        const double value = std::fabs(values[grid.at(i, o)]);
                        sum += options_.norm == Norm::l1 ? value : value * value;
                    }
                candidate.scores.push_back(
                    static_cast<float>(options_.norm == Norm::l1 ? sum : std::sqrt(sum)));
            }
        candidate.prune.assign(candidate.scores.size(), false);
    }

    /// Exactly the share of the blocks, ties in order.
    void chooseSmallest(const std::vector<Candidate*>& candidates) const {
        std::vector<float> scores;
        for (const Candidate* candidate : candidates)
            scores.insert(scores.end(), candidate->scores.begin(), candidate->scores.end());
        auto left = static_cast<std::int64_t>(
            std::floor(*options_.sparsity * static_cast<double>(scores.size()) + 1e-9));
        if (left == 0) return;
        std::nth_element(scores.begin(), scores.begin() + (left - 1), scores.end());
        const float limit = scores[static_cast<std::size_t>(left - 1)];
        left -= std::count_if(scores.begin(), scores.end(), [&](float score) { return score < limit; });
        for (Candidate* candidate : candidates)
            for (std::size_t i = 0; i < candidate->scores.size(); ++i) {
                const bool tie = candidate->scores[i] == limit && left > 0;
                if (tie) --left;
                candidate->prune[i] = tie || candidate->scores[i] < limit;
            }
    }

    /// One entry of prune for each weight, outputs first.
    void chooseGrouped(Candidate& candidate) const {
        const Grid grid(*candidate.weight, candidate.values);
        const auto values = candidate.values.data<float>();
        candidate.prune.assign(values.size(), false);
        std::vector<std::int64_t> order(static_cast<std::size_t>(pattern_.group));
        for (std::int64_t output = 0; output < grid.outputs; ++output)
            for (std::int64_t begin = 0; begin < grid.inputs; begin += pattern_.group) {
                std::iota(order.begin(), order.end(), begin);
                std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
                    return std::fabs(values[grid.at(a, output)]) > std::fabs(values[grid.at(b, output)]);
                });
                for (auto i = order.begin() + pattern_.keep; i != order.end(); ++i)
                    candidate.prune[static_cast<std::size_t>(*i * grid.outputs + output)] = true;
            }
    }

    void apply(ir::Edit& edit, Candidate& candidate, PassReport& report) const {
        const Grid grid(*candidate.weight, candidate.values);
        const std::int64_t outputBlocks = grid.outputs / pattern_.outputs;
        const auto values = candidate.values.mutableData<float>();
        double removed = 0, total = 0;
        std::int64_t changes = 0, zeros = 0;
        for (std::int64_t input = 0; input < grid.inputs; ++input)
            for (std::int64_t output = 0; output < grid.outputs; ++output) {
                float& value = values[grid.at(input, output)];
                const double squared = static_cast<double>(value) * value;
                total += squared;
                const std::int64_t block = input / pattern_.inputs * outputBlocks + output / pattern_.outputs;
                if (candidate.prune[static_cast<std::size_t>(block)] && value != 0) {
                    removed += squared;
                    ++changes;
                    value = 0;
                }
                zeros += value == 0 ? 1 : 0;
            }
        if (changes == 0) {
            skip(report, *candidate.weight, "nothing in it is small enough to go");
            return;
        }
        edit.setConstant(candidate.weight->constant, candidate.values);
        for (const analysis::Site* site : candidate.weight->sites)
            report.changed.push_back(
                {site->name,
                 fmt::format("{} of {} weights are zero ({:.1f} %)", zeros, values.size(),
                             100.0 * static_cast<double>(zeros) / static_cast<double>(values.size())),
                 total > 0 ? std::sqrt(removed / total) : 0.0});
    }

    Options options_;
    SparsePattern pattern_;
};

}  // namespace

pipeline::PassInfo pruneMagnitude() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "magnitude";
    info.summary = "set the smallest weights to zero: single ones, N:M, or blocks";
    info.details =
        "Zeros are stored like any other value until store-sparse takes them out of the file, and no runtime here multiplies "
        "faster for them. The report counts the weights that are not zero.";
    info.paper = "Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks";
    info.defaultMethod = true;
    bindOptions<PruneMagnitude, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
