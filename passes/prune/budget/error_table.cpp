#include "passes/prune/budget/error_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/drop_layers/layer_choice.h"
#include "passes/prune/budget/output_judge.h"
#include "passes/support/compensation.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;

constexpr double kNever = std::numeric_limits<double>::infinity();

/// Indices into a part's keeps at which the model runs: about three quarters, a half, a quarter, an eighth, the fewest.
std::vector<std::size_t> measuredAt(const Part& part) {
    std::vector<std::size_t> result;
    const std::size_t last = part.keeps.size() - (part.canGo() ? 2 : 1);
    for (const double share : {0.75, 0.5, 0.25, 0.125, 0.0}) {
        std::size_t nearest = last;
        for (std::size_t i = 1; i <= last; ++i)
            if (static_cast<double>(part.keeps[i]) <= share * static_cast<double>(part.units) + 1e-9) {
                nearest = i;
                break;
            }
        if (nearest > 0 && (result.empty() || result.back() < nearest)) result.push_back(nearest);
    }
    return result;
}

/// Errors at all numbers: what was measured, and between that local errors (without 1, 2, … units) times the ratio of the
/// two, which is interpolated.
std::vector<double> spreadErrors(const Part& part, const std::vector<double>& local, const std::vector<std::size_t>& at,
                                 const std::vector<double>& measured) {
    std::vector<double> errors(part.keeps.size(), kNever);
    errors[0] = 0;
    std::size_t next = 0;
    const std::size_t last = part.keeps.size() - (part.canGo() ? 2 : 1);
    const auto localAt = [&](std::size_t index) {
        return local[static_cast<std::size_t>(part.units - part.keeps[index]) - 1];
    };
    const auto ratio = [&](std::size_t k) { return measured[k] / std::max(localAt(at[k]), 1e-300); };
    for (std::size_t i = 1; i <= last && !measured.empty(); ++i) {
        while (next + 1 < at.size() && at[next] < i) ++next;
        double scale = ratio(next);
        if (next > 0 && at[next] > i) {
            const auto keep = static_cast<double>(part.keeps[i]), high = static_cast<double>(part.keeps[at[next - 1]]),
                       low = static_cast<double>(part.keeps[at[next]]);
            scale = ratio(next - 1) + (high - keep) / (high - low) * (ratio(next) - ratio(next - 1));
        }
        errors[i] = std::max(errors[i - 1], localAt(i) * scale);
    }
    return errors;
}

/// The error of the outputs with one run cut out, its map in its place where that is better than nothing.
double droppedError(const ir::Model& model, LayerRun run, const std::optional<RunFit>& fit, const OutputJudge& judge) {
    if (fit && fit->errorPatched < fit->errorPlain) run.patch = fit->map;
    ir::Model edited = model.clone();
    pipeline::PassReport unused;
    cutOut(edited, run, "trial", unused);
    return judge.error(edited);
}

/// Errors of one part by index into its keeps, a dropped sublayer's left open.
std::vector<double> partErrors(const ir::Model& model, const TransformerView& view, const Part& part,
                               const data::Split& samples, const OutputJudge& judge, std::string& refusal,
                               Progress& progress) {
    std::vector<UnitTask> task = {{part.layers, 0, {}, {}}};
    const std::vector<std::size_t> at = measuredAt(part);
    std::vector<std::int64_t> keeps;
    for (const std::size_t index : at) keeps.push_back(part.keeps[index]);
    const RemovalPath path = removalPaths(model, view, task, {keeps}, samples, progress).front();
    refusal = task.front().refusal;
    std::vector<double> measured;
    for (const UnitStage& stage : path.stages) {
        ir::Model edited = model.clone();
        writeStages(edited, analysis::recognise(edited), {&stage});
        measured.push_back(judge.error(edited));
    }
    return spreadErrors(part, path.errors, at, measured);
}

/// Errors with each sublayer of a block dropped, and with all of them.
void addDroppedErrors(const ir::Model& model, const Anatomy& anatomy, std::size_t block, const data::Split& samples,
                      const OutputJudge& judge, Progress& progress, ErrorTable& table) {
    std::vector<std::size_t> droppable;
    for (const std::size_t part : anatomy.blocks[block].parts)
        if (anatomy.parts[part].canGo()) droppable.push_back(part);
    std::vector<LayerRun> runs;
    for (const std::size_t part : droppable) {
        Assignment assignment = anatomy.whole();
        assignment[part] = 0;
        runs.push_back(anatomy.runs(assignment).front());
    }
    if (anatomy.blocks[block].canGo) {
        Assignment assignment = anatomy.whole();
        for (const std::size_t part : droppable) assignment[part] = 0;
        runs.push_back(anatomy.runs(assignment).front());
    }
    const auto fits = fitRuns(model, model, runs, samples, progress);
    for (std::size_t r = 0; r < runs.size(); ++r) {
        const double error = droppedError(model, runs[r], fits[r], judge);
        (r < droppable.size() ? table.parts[droppable[r]].back() : table.blocks[block]) = error;
    }
}

}  // namespace

ErrorTable measureErrors(const ir::Model& model, const TransformerView& view, const Anatomy& anatomy,
                         const data::Split& samples, std::vector<std::string>& refusals,
                         const pipeline::PassContext& context) {
    // Enough to rank by; what is chosen is fitted to all samples.
    constexpr std::int64_t kFitted = 384, kHeld = 128, kJudges = 64;
    const data::Split few{samples.fit.head(kFitted), samples.heldBack.head(kHeld)};
    const data::Dataset& held = few.heldBack.sampleCount() > 0 ? few.heldBack : few.fit;
    OutputJudge judge(model, comparableOutputs(model.graph(), anatomy.spans), held.head(kJudges), context);
    ErrorTable table;
    table.parts.resize(anatomy.parts.size());
    table.blocks.assign(anatomy.blocks.size(), kNever);
    refusals.assign(anatomy.parts.size(), {});
    for (std::size_t block = 0; block < anatomy.blocks.size(); ++block) {
        judge.advanceTo(anatomy.blocks[block].input);
        for (const std::size_t part : anatomy.blocks[block].parts)
            table.parts[part] = partErrors(model, view, anatomy.parts[part], few, judge, refusals[part], context.progress());
        addDroppedErrors(model, anatomy, block, few, judge, context.progress(), table);
    }
    return table;
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
