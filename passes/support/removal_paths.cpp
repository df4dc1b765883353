#include "passes/support/removal_paths.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "lib/support/check.h"

namespace tcompress::passes {

using calibration::TensorStore;

namespace {

/// Sums without the products of inputs: enough for a bias.
LayerSums means(const LayerSums& sums, const std::vector<std::int64_t>& inputs) {
    LayerSums kept(0, sums.outputs);
    kept.inputs = std::ssize(inputs);
    kept.rows = sums.rows;
    for (const std::int64_t input : inputs) kept.x.push_back(sums.x[static_cast<std::size_t>(input)]);
    kept.y = sums.y;
    kept.e = sums.e;
    return kept;
}

UnitStage::Reader readerAt(const UnitReader& reader, const LayerSums& sums, const RefitChoice& choice,
                           const std::vector<bool>& mask, std::vector<double> weights, TensorStore& store) {
    UnitStage::Reader result{reader.weight->constant->name(), reader.inputsThatStay(mask), 0, {}};
    Tensor tensor(DType::float32, {std::ssize(result.inputs), reader.outputs});
    std::transform(weights.begin(), weights.end(), tensor.mutableData<float>().begin(),
                   [](double value) { return static_cast<float>(value); });
    result.slot = store.add(tensor);
    result.bias = withBias(means(sums, result.inputs), std::move(weights), reader.start, choice).bias;
    return result;
}

/// Stages at which the outputs are looked at: about three quarters of the units, a half, a quarter, an eighth, the fewest.
std::vector<std::size_t> measuredStages(const std::vector<UnitStage>& stages, std::int64_t units) {
    std::vector<std::size_t> result;
    for (const double share : {0.75, 0.5, 0.25, 0.125, 0.0}) {
        std::size_t index = 0;
        while (index + 1 < stages.size() && static_cast<double>(stages[index].keep) > share * static_cast<double>(units) + 1e-9)
            ++index;
        if (result.empty() || result.back() < index) result.push_back(index);
    }
    return result;
}

}  // namespace

const UnitStage* RemovalPath::nearest(std::int64_t keep, std::int64_t units) const {
    const UnitStage* best = nullptr;
    std::int64_t least = units - keep;
    for (const UnitStage& stage : stages)
        if (const std::int64_t distance = std::abs(stage.keep - keep); distance < least) {
            best = &stage;
            least = distance;
        }
    return best;
}

RemovalPath removalPath(std::vector<UnitReader> readers, const std::vector<std::int64_t>& keeps, TensorStore& store) {
    const std::size_t units = readers.front().groups.size();
    std::vector<RefitChoice> choices;
    std::vector<RemovalProblem> problems;
    std::vector<LayerSums> sums;
    double whole = 0;
    for (UnitReader& reader : readers) {
        choices.push_back(chooseRefit(*reader.evidence, reader.start, reader.bias));
        sums.push_back(std::move(reader.evidence->fit));
        sums.back() += reader.evidence->held;
        reader.evidence.reset();
        problems.push_back(removalProblem(reader, sums.back(), choices.back()));
        whole += sums.back().yy;
    }
    RemovalPath path;
    RemovalVisitor visitor;
    for (const std::int64_t keep : keeps) visitor.after.push_back(units - static_cast<std::size_t>(keep));
    visitor.visit = [&](std::size_t index, const RemovalOrder& order, const std::vector<std::vector<double>>& weights) {
        std::vector<bool> mask(units, true);
        for (const std::size_t unit : order.groups) mask[unit] = false;
        UnitStage stage{keeps[index], {}};
        for (std::size_t r = 0; r < readers.size(); ++r)
            stage.readers.push_back(readerAt(readers[r], sums[r], choices[r], mask, weights[r], store));
        path.stages.push_back(std::move(stage));
    };
    path.errors = removalOrder(std::move(problems), units - 1, visitor).error;
    for (double& error : path.errors) error /= std::max(whole, 1e-300);
    return path;
}

RemovalPaths removalPaths(const ir::Model& model, const analysis::TransformerView& view, std::vector<UnitTask>& tasks,
                          const std::vector<std::vector<std::int64_t>>& keeps, const data::Split& samples,
                          const pipeline::PassContext& context) {
    const UnitWeights weights(view);
    RemovalPaths result{std::vector<RemovalPath>(tasks.size()), TensorStore(kMemoryForRows)};
    std::vector<WalkStep> steps;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const std::vector<UnitReader> readers = weights.readersOf(tasks[i]);
        if (!tasks[i].refusal.empty()) continue;
        steps.push_back(stepOf(readers, [&, i, readers](EvidenceWalk& walk) {
            std::vector<UnitReader> own = readers;
            gatherEvidence(walk, own);
            result.paths[i] = removalPath(std::move(own), keeps[i], result.store);
        }));
    }
    EvidenceWalk walk(model, model, view, samples, context.environment());
    walkInOrder(walk, std::move(steps));
    return result;
}

void writeStage(ir::Edit& edit, const UnitWeights& weights, const UnitStage& stage, const TensorStore& store) {
    for (const UnitStage::Reader& reader : stage.readers) {
        const TargetWeight* weight = weights.find(reader.weight);
        TCOMPRESS_CHECK(weight != nullptr, "a stage of another model");
        const LinearLayer before = readLayer(*weight->sites.front());
        const Tensor values = store.get(reader.slot);
        const auto kept = values.data<float>();
        writeLayer(edit, *weight, before,
                   spread({{kept.begin(), kept.end()}, reader.bias}, reader.inputs,
                          static_cast<std::int64_t>(before.weight.size() / before.bias.size())));
    }
}

ir::Model withStages(const ir::Model& model, const TensorStore& store, const std::vector<const UnitStage*>& stages) {
    ir::Model edited = model.clone();
    const analysis::TransformerView view = analysis::recognise(edited);
    const UnitWeights weights(view);
    ir::Edit edit(edited, "trial");
    for (const UnitStage* stage : stages) writeStage(edit, weights, *stage, store);
    if (!edit.empty()) edit.commit();
    return edited;
}

std::vector<double> outputErrors(const ir::Model& model, const RemovalPath& path, const TensorStore& store,
                                 std::int64_t units, const OutputJudge& judge) {
    std::vector<double> errors = path.errors;
    if (path.stages.empty()) return errors;
    struct Point {
        double gone = 0, error = 0, ratio = 0;
    };
    std::vector<Point> points;
    for (const std::size_t index : measuredStages(path.stages, units)) {
        const UnitStage& stage = path.stages[index];
        const auto gone = static_cast<std::size_t>(units - stage.keep);
        const double error = judge.error(withStages(model, store, {&stage}));
        points.push_back({static_cast<double>(gone), error, error / std::max(path.errors[gone - 1], 1e-300)});
    }
    double least = 0;
    std::size_t next = 0;
    for (std::size_t i = 0; i < errors.size(); ++i) {
        const auto gone = static_cast<double>(i + 1);
        while (next + 1 < points.size() && points[next].gone < gone) ++next;
        double ratio = points[next].ratio;
        if (next > 0 && points[next].gone > gone) {
            const Point &low = points[next - 1], &high = points[next];
            ratio = low.ratio + (gone - low.gone) / (high.gone - low.gone) * (high.ratio - low.ratio);
        }
        // Beside a stage whose outputs overflow the ratio is infinite, or no number.
        const double error = errors[i] * ratio;
        least = std::isfinite(error) ? std::max(least, error) : std::numeric_limits<double>::infinity();
        errors[i] = least;
    }
    return errors;
}

}  // namespace tcompress::passes
