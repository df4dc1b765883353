#include "passes/prune/budget/error_table.h"

#include <algorithm>
#include <limits>

#include "passes/drop_layers/layer_choice.h"
#include "passes/support/output_judge.h"
#include "passes/support/removal_paths.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The numbers of units between all and none.
std::vector<std::int64_t> fewerUnits(const Part& part) {
    return {part.keeps.begin() + 1, part.keeps.end() - (part.canGo() ? 1 : 0)};
}

/// Measures one block after another: what each asks of the evidence comes from one run over the samples.
class ErrorMeter {
  public:
    ErrorMeter(const ir::Model& model, const TransformerView& view, const Anatomy& anatomy, const data::Split& samples,
               const pipeline::PassContext& context)
        : model_(model),
          anatomy_(anatomy),
          weights_(view),
          judge_(model, comparableOutputs(model.graph(), anatomy.spans), judges(samples), context),
          walk_(model, model, view, samples, context.environment()),
          store_(context.resources().memoryLimitBytes) {
        table_.parts.resize(anatomy.parts.size());
        table_.blocks.assign(anatomy.blocks.size(), kNever);
    }

    ErrorTable measure(std::vector<std::string>& refusals) {
        for (std::size_t block = 0; block < anatomy_.blocks.size(); ++block) {
            const PartGroup& group = anatomy_.blocks[block];
            judge_.advanceTo(group.input);
            if (group.block >= 0) walk_.advanceTo(group.block);
            measureBlock(block, refusals);
        }
        return std::move(table_);
    }

  private:
    static data::Dataset judges(const data::Split& samples) {
        constexpr std::int64_t kJudges = 64;
        return (samples.heldBack.sampleCount() > 0 ? samples.heldBack : samples.fit).head(kJudges);
    }

    void measureBlock(std::size_t block, std::vector<std::string>& refusals) {
        const std::vector<std::size_t>& parts = anatomy_.blocks[block].parts;
        std::vector<std::vector<UnitReader>> readers;
        std::vector<EvidenceQuery> queries;
        const auto ask = [&](const std::vector<EvidenceQuery>& more) { queries.insert(queries.end(), more.begin(), more.end()); };
        for (const std::size_t part : parts) {
            UnitTask task{anatomy_.parts[part].layers, 0, {}, {}};
            readers.push_back(weights_.readersOf(task));
            if (!task.refusal.empty()) readers.back().clear();
            refusals[part] = task.refusal;
            ask(queriesOf(readers.back()));
        }
        const std::vector<LayerRun> runs = droppedRuns(block);
        std::vector<std::optional<EvidenceQuery>> runQueries;
        for (const LayerRun& run : runs) {
            runQueries.push_back(runQuery(model_, model_, run));
            if (runQueries.back()) ask({*runQueries.back()});
        }
        std::vector<Evidence> evidence = walk_.collect(queries);
        std::span<Evidence> left = evidence;
        const auto take = [&](std::size_t count) {
            const std::span<Evidence> taken = left.first(count);
            left = left.subspan(count);
            return taken;
        };
        for (std::size_t i = 0; i < parts.size(); ++i) {
            const Part& part = anatomy_.parts[parts[i]];
            std::vector<double>& errors = table_.parts[parts[i]];
            errors.assign(part.keeps.size(), kNever);
            errors.front() = 0;
            if (readers[i].empty()) continue;
            takeEvidence(readers[i], take(queriesOf(readers[i]).size()));
            measurePart(part, std::move(readers[i]), errors);
        }
        std::vector<double> dropped;
        for (std::size_t r = 0; r < runs.size(); ++r)
            dropped.push_back(droppedError(runs[r], runQueries[r] ? fitRun(take(1).front()) : std::nullopt));
        std::size_t next = 0;
        for (const std::size_t part : parts)
            if (anatomy_.parts[part].canGo()) table_.parts[part].back() = dropped[next++];
        if (anatomy_.blocks[block].canGo) table_.blocks[block] = dropped[next];
    }

    void measurePart(const Part& part, std::vector<UnitReader> readers, std::vector<double>& errors) {
        const std::vector<std::int64_t> keeps = fewerUnits(part);
        if (keeps.empty()) return;
        const RemovalPath path = removalPath(std::move(readers), keeps, store_);
        const std::vector<double> byUnits = outputErrors(model_, path, store_, part.units, judge_);
        for (std::size_t i = 0; i < keeps.size(); ++i)
            errors[i + 1] = byUnits[static_cast<std::size_t>(part.units - keeps[i]) - 1];
    }

    /// Each sublayer of a block that can go, and all of them together where that is possible.
    std::vector<LayerRun> droppedRuns(std::size_t block) const {
        std::vector<LayerRun> runs;
        Assignment all = anatomy_.whole();
        for (const std::size_t part : anatomy_.blocks[block].parts) {
            if (!anatomy_.parts[part].canGo()) continue;
            Assignment one = anatomy_.whole();
            one[part] = all[part] = 0;
            runs.push_back(anatomy_.runs(one).front());
        }
        if (anatomy_.blocks[block].canGo) runs.push_back(anatomy_.runs(all).front());
        return runs;
    }

    /// The error of the outputs with one run cut out, its map in its place where that is better than nothing.
    double droppedError(LayerRun run, const std::optional<RunFit>& fit) const {
        if (fit && fit->errorPatched < fit->errorPlain) run.patch = fit->map;
        ir::Model edited = model_.clone();
        pipeline::PassReport unused;
        cutOut(edited, run, "trial", unused);
        return judge_.error(edited);
    }

    const ir::Model& model_;
    const Anatomy& anatomy_;
    UnitWeights weights_;
    OutputJudge judge_;
    EvidenceWalk walk_;
    calibration::TensorStore store_;
    ErrorTable table_;
};

}  // namespace

ErrorTable measureErrors(const ir::Model& model, const TransformerView& view, const Anatomy& anatomy,
                         const data::Split& samples, std::vector<std::string>& refusals,
                         const pipeline::PassContext& context) {
    // Enough to rank by; what is chosen is fitted to all samples.
    constexpr std::int64_t kFitted = 384, kHeld = 128;
    refusals.assign(anatomy.parts.size(), {});
    const data::Split few{samples.fit.head(kFitted), samples.heldBack.head(kHeld)};
    return ErrorMeter(model, view, anatomy, few, context).measure(refusals);
}

double predictedError(const ErrorTable& table, const Anatomy& anatomy, const Assignment& assignment) {
    double error = 0;
    for (std::size_t b = 0; b < anatomy.blocks.size(); ++b) {
        if (anatomy.blocks[b].isDropped(assignment)) {
            error += table.blocks[b];
            continue;
        }
        for (const std::size_t p : anatomy.blocks[b].parts) {
            const auto& keeps = anatomy.parts[p].keeps;
            error += table.parts[p][static_cast<std::size_t>(std::find(keeps.begin(), keeps.end(), assignment[p]) - keeps.begin())];
        }
    }
    return error;
}

}  // namespace tcompress::passes
