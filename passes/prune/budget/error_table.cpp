#include "passes/prune/budget/error_table.h"

#include <algorithm>
#include <limits>

#include "passes/drop_layers/layer_choice.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;

constexpr double kNever = std::numeric_limits<double>::infinity();

Tensor tensorOf(const LinearLayer& layer) {
    Tensor tensor(DType::float32, {static_cast<std::int64_t>(layer.weight.size() / layer.bias.size()), std::ssize(layer.bias)});
    std::copy(layer.weight.begin(), layer.weight.end(), tensor.mutableData<float>().begin());
    return tensor;
}

void cutOut(ir::Model& model, const DroppedStage& stage, const calibration::TensorStore& store) {
    LayerRun run = stage.run;
    if (stage.map) {
        const Tensor map = store.get(*stage.map);
        const auto values = map.data<float>();
        run.patch = LinearLayer{{values.begin(), values.end()}, stage.bias};
    }
    pipeline::PassReport unused;
    cutOut(model, run, "trial", unused);
}

/// What a block asks of the evidence, each question once.
struct Questions {
    std::vector<EvidenceQuery> queries;

    std::vector<std::size_t> ask(const std::vector<EvidenceQuery>& more) {
        std::vector<std::size_t> places;
        for (const EvidenceQuery& query : more) {
            const auto same = std::find_if(queries.begin(), queries.end(), [&](const EvidenceQuery& other) {
                return other.input == query.input && other.output == query.output;
            });
            places.push_back(static_cast<std::size_t>(same - queries.begin()));
            if (same == queries.end()) queries.push_back(query);
        }
        return places;
    }
};

/// Measures one block after another: what each asks of the evidence comes from one run over the samples.
class ErrorMeter {
  public:
    ErrorMeter(const ir::Model& model, const TransformerView& view, const Anatomy& anatomy, const data::Split& samples,
               const pipeline::PassContext& context, std::shared_ptr<const OutputCurvature> curvature)
        : model_(model),
          anatomy_(anatomy),
          curvature_(std::move(curvature)),
          weights_(view),
          view_(view),
          judge_(model, comparableOutputs(model.graph(), anatomy.spans), judgesOf(samples), context),
          walk_(model, model, view, samples, context.environment()),
          table_{std::vector<std::vector<double>>(anatomy.parts.size()), std::vector<double>(anatomy.blocks.size(), kNever),
                 {std::vector<LayerDatabase::PartStages>(anatomy.parts.size()),
                  std::vector<std::optional<DroppedStage>>(anatomy.blocks.size()),
                  calibration::TensorStore(kMemoryForRows)}} {}

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
    void measureBlock(std::size_t block, std::vector<std::string>& refusals) {
        const std::vector<std::size_t>& parts = anatomy_.blocks[block].parts;
        std::vector<std::vector<UnitReader>> readers;
        Questions questions;
        std::vector<std::vector<std::size_t>> ofReaders, ofMatrices;
        for (const std::size_t part : parts) {
            UnitTask task{anatomy_.parts[part].layers, 0, {}, curvature_};
            readers.push_back(weights_.readersOf(task));
            if (!task.refusal.empty()) readers.back().clear();
            refusals[part] = task.refusal;
            ofReaders.push_back(questions.ask(queriesOf(readers.back())));
            ofMatrices.emplace_back();
            for (const std::string& name : anatomy_.parts[part].matrices)
                ofMatrices.back().push_back(questions.ask(queriesOf(*weights_.find(name), view_)).front());
        }
        const std::vector<LayerRun> runs = droppedRuns(block);
        std::vector<std::optional<std::size_t>> ofRuns;
        for (const LayerRun& run : runs) {
            const std::optional<EvidenceQuery> query = runQuery(model_, model_, run);
            ofRuns.push_back(query ? std::optional(questions.ask({*query}).front()) : std::nullopt);
        }
        std::vector<Evidence> evidence = walk_.collect(questions.queries);
        for (std::size_t i = 0; i < parts.size(); ++i) {
            table_.parts[parts[i]].assign(anatomy_.parts[parts[i]].choices.size(), kNever);
            table_.parts[parts[i]].front() = 0;
            measureRanks(parts[i], ofMatrices[i], evidence);
            std::vector<Evidence> own;
            for (const std::size_t question : ofReaders[i]) own.push_back(std::move(evidence[question]));
            measureUnits(parts[i], std::move(readers[i]), own);
        }
        std::size_t next = 0;
        const auto measureDropped = [&](std::optional<DroppedStage>& stage, double& error) {
            const std::size_t r = next++;
            stage = droppedStage(runs[r], ofRuns[r] ? fitRun(evidence[*ofRuns[r]]) : std::nullopt);
            ir::Model edited = model_.clone();
            cutOut(edited, *stage, table_.layers.store);
            error = judge_.error(edited);
        };
        for (const std::size_t part : parts)
            if (anatomy_.parts[part].canGo()) measureDropped(table_.layers.parts[part].dropped, table_.parts[part].back());
        if (anatomy_.blocks[block].canGo) measureDropped(table_.layers.blocks[block], table_.blocks[block]);
    }

    void measureUnits(std::size_t index, std::vector<UnitReader> readers, std::span<Evidence> evidence) {
        const Part& part = anatomy_.parts[index];
        const std::vector<std::int64_t> keeps = part.fewerUnits();
        if (readers.empty() || keeps.empty()) return;
        takeEvidence(readers, evidence);
        RemovalPath& path = table_.layers.parts[index].path;
        path = removalPath(std::move(readers), keeps, table_.layers.store);
        const std::vector<double> byUnits = outputErrors(model_, path, table_.layers.store, part.units, judge_);
        for (const std::int64_t keep : keeps)
            table_.parts[index][part.indexOf(keep)] = byUnits[static_cast<std::size_t>(part.units - keep) - 1];
    }

    /// Of a matrix that several sites share the first site's evidence is enough.
    void measureRanks(std::size_t index, const std::vector<std::size_t>& questions, const std::vector<Evidence>& evidence) {
        const Part& part = anatomy_.parts[index];
        if (part.matrices.empty()) return;
        std::vector<const TargetWeight*> matrices;
        std::vector<const Evidence*> ofMatrices;
        for (std::size_t m = 0; m < part.matrices.size(); ++m) {
            matrices.push_back(weights_.find(part.matrices[m]));
            ofMatrices.push_back(&evidence[questions[m]]);
        }
        RankStages& stages = table_.layers.parts[index].ranks;
        stages = rankStages(matrices, ofMatrices, part.rankPercents().front(), anatomy_.multiple, table_.layers.store);
        double least = 0;
        for (const std::int64_t percent : part.rankPercents()) {
            Assignment assignment = anatomy_.whole();
            assignment[index] = {part.units, percent};
            least = std::max(least, judge_.error(assembled(model_, anatomy_, table_.layers, assignment)));
            table_.parts[index][part.indexOf(assignment[index])] = least;
        }
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

    DroppedStage droppedStage(LayerRun run, const std::optional<RunFit>& fit) {
        DroppedStage stage{std::move(run), std::nullopt, {}};
        if (!fit || fit->errorPatched >= fit->errorPlain) return stage;
        stage.map = table_.layers.store.add(tensorOf(fit->map));
        stage.bias = fit->map.bias;
        return stage;
    }

    const ir::Model& model_;
    const Anatomy& anatomy_;
    std::shared_ptr<const OutputCurvature> curvature_;
    UnitWeights weights_;
    const TransformerView& view_;
    OutputJudge judge_;
    EvidenceWalk walk_;
    ErrorTable table_;
};

}  // namespace

ErrorTable measureErrors(const ir::Model& model, const TransformerView& view, const Anatomy& anatomy,
                         const data::Split& samples, std::vector<std::string>& refusals,
                         const pipeline::PassContext& context, std::shared_ptr<const OutputCurvature> curvature) {
    refusals.assign(anatomy.parts.size(), {});
    return ErrorMeter(model, view, anatomy, samples, context, std::move(curvature)).measure(refusals);
}

double predictedError(const ErrorTable& table, const Anatomy& anatomy, const Assignment& assignment) {
    double error = 0;
    for (std::size_t b = 0; b < anatomy.blocks.size(); ++b) {
        if (anatomy.blocks[b].isDropped(assignment)) {
            error += table.blocks[b];
            continue;
        }
        for (const std::size_t p : anatomy.blocks[b].parts)
            error += table.parts[p][anatomy.parts[p].indexOf(assignment[p])];
    }
    return error;
}

ir::Model assembled(const ir::Model& model, const Anatomy& anatomy, const LayerDatabase& layers, const Assignment& assignment) {
    ir::Model edited = model.clone();
    const TransformerView view = analysis::recognise(edited);
    const UnitWeights weights(view);
    ir::Edit edit(edited, "trial");
    for (std::size_t i = 0; i < anatomy.parts.size(); ++i) {
        const PartChoice& choice = assignment[i];
        if (choice.isRanks())
            writeRanks(edit, weights, layers.parts[i].ranks, choice.rankPercent, anatomy.multiple, layers.store);
        else if (!choice.isDropped())
            if (const UnitStage* stage = layers.parts[i].path.nearest(choice.units, anatomy.parts[i].units))
                writeStage(edit, weights, *stage, layers.store);
    }
    if (!edit.empty()) edit.commit();
    std::vector<const DroppedStage*> dropped;
    for (std::size_t b = 0; b < anatomy.blocks.size(); ++b) {
        if (anatomy.blocks[b].isDropped(assignment)) {
            dropped.push_back(&*layers.blocks[b]);
            continue;
        }
        for (const std::size_t part : anatomy.blocks[b].parts)
            if (assignment[part].isDropped()) dropped.push_back(&*layers.parts[part].dropped);
    }
    // The last first: what one begins with another may end with.
    std::sort(dropped.begin(), dropped.end(), [](const DroppedStage* a, const DroppedStage* b) {
        return a->run.layers.front() > b->run.layers.front();
    });
    for (const DroppedStage* stage : dropped) cutOut(edited, *stage, layers.store);
    return edited;
}

}  // namespace tcompress::passes
