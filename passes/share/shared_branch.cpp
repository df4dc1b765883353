#include "passes/share/shared_branch.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "passes/share/assignment.h"
#include "lib/ir/emit.h"
#include "passes/support/obs.h"

namespace tcompress::passes {
namespace {

/// Turns of the alternation; it converges slowly, as such alternations do.
constexpr int kTurns = 8;

UnitPlan numbered(std::size_t layers, std::int64_t units) {
    UnitPlan plan(static_cast<std::size_t>(units));
    for (std::int64_t p = 0; p < units; ++p)
        for (std::size_t l = 0; l < layers; ++l) plan[static_cast<std::size_t>(p)].push_back({l, p});
    return plan;
}

double relative(const LayerSums& held, const LinearLayer& layer) {
    return held.yy > 0 ? std::sqrt(std::max(0.0, squaredError(held, layer, 1)) / held.yy) : 0.0;
}

bool isOne(const std::vector<double>& scale) {
    return std::all_of(scale.begin(), scale.end(), [](double value) { return value == 1; });
}

/// How many units each layer loses so that their errors, relative to their outputs, add up to the least: removals one
/// at a time, the cheapest first. `costs[l][k]` is the error without k + 1 units.
std::vector<std::size_t> removals(const std::vector<std::vector<double>>& costs, std::size_t count) {
    std::vector<std::size_t> gone(costs.size());
    for (; count > 0; --count) {
        std::size_t cheapest = costs.size();
        double least = INFINITY;
        for (std::size_t l = 0; l < costs.size(); ++l) {
            if (gone[l] == costs[l].size()) continue;
            const double step = costs[l][gone[l]] - (gone[l] == 0 ? 0.0 : costs[l][gone[l] - 1]);
            if (cheapest == costs.size() || step < least) {
                least = step;
                cheapest = l;
            }
        }
        TCOMPRESS_CHECK(cheapest < costs.size(), "more units are to go than layers may lose");
        ++gone[cheapest];
    }
    return gone;
}

}  // namespace

double SharedBranch::Solution::total() const {
    double sum = 0;
    for (const double error : errors) sum += error * error;
    return sum;
}

SharedBranch::SharedBranch(ir::Model& model, const ir::Model& reference, std::vector<BranchWeights> layers, std::string units)
    : model_(model), reference_(reference), layers_(std::move(layers)), original_(layers_), units_(std::move(units)) {
    shared_.scales.assign(layers_.size(), std::vector<double>(static_cast<std::size_t>(layers_.front().inputs()), 1.0));
}

void SharedBranch::average() {
    const UnitPlan plan = numbered(layers_.size(), layers_.front().units());
    shared_.weight = plannedDown(original_, plan);
    write(plan, shared_);
    way_ = "plain averages";
}

void SharedBranch::choose(const data::Split& samples, const calibration::Environment& environment) {
    const std::vector<Evidence> own = gather(samples, environment);
    for (std::size_t l = 0; l < layers_.size(); ++l)
        choices_.push_back(chooseRefit(own[l], layers_[l].downNow, biasFit(layers_[l].downSite())));
    average();
    plainErrors_ = errorsNow(gather(samples, environment));
    const SharedWeights ones = shared_;

    SharedWeights poolStart;
    const UnitPlan pool = pooled(own, poolStart);
    const std::string poolWay = way_;
    write(pool, poolStart);
    const Solution fromPool = solve(gather(samples, environment), poolStart);

    const UnitPlan averages = matched();
    SharedWeights averageStart{plannedDown(original_, averages), ones.scales};
    write(averages, averageStart);
    const Solution fromAverages = solve(gather(samples, environment), averageStart);

    const bool takesPool = fromPool.total() < fromAverages.total();
    const Solution& best = takesPool ? fromPool : fromAverages;
    if (takesPool) write(pool, poolStart);
    way_ = takesPool ? poolWay : fmt::format("averages of matched {}", units_);
    write(best.downs);
    shared_ = best.shared;
    errors_ = best.errors;
}

void SharedBranch::refit(const data::Split& samples, const calibration::Environment& environment) {
    const std::vector<Evidence> evidence = gather(samples, environment);
    errors_ = errorsNow(evidence);
    const Solution again = solve(evidence, shared_);
    double before = 0;
    for (const double error : errors_) before += error * error;
    if (again.total() >= before) return;
    write(again.downs);
    shared_ = again.shared;
    errors_ = again.errors;
}

std::vector<Evidence> SharedBranch::gather(const data::Split& samples, const calibration::Environment& environment) const {
    std::vector<EvidenceQuery> queries;
    for (const BranchWeights& layer : layers_) queries.push_back(evidenceQuery(layer.downSite(), layer.residualAdd));
    return collectEvidence(reference_, model_, queries, samples, environment);
}

std::vector<double> SharedBranch::errorsNow(const std::vector<Evidence>& evidence) const {
    std::vector<double> errors;
    for (std::size_t l = 0; l < layers_.size(); ++l) errors.push_back(relative(evidence[l].held, layers_[l].downNow));
    return errors;
}

SharedBranch::Solution SharedBranch::solve(const std::vector<Evidence>& evidence,
                                                     const SharedWeights& start) const {
    std::vector<LayerOptimum> toFit, toAll;
    std::vector<LayerSums> all;
    const auto problem = [&](const LayerSums& sums, std::size_t l) {
        LayerOptimum layer;
        layer.hessian = hessian(sums, choices_[l]);
        layer.optimum = passes::refit(sums, layers_[l].downNow, choices_[l]).weight;
        // A layer that puts out nothing but zeros has no say.
        layer.importance = sums.yy > 0 ? 1 / sums.yy : 0.0;
        return layer;
    };
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        all.push_back(evidence[l].all());
        toFit.push_back(problem(evidence[l].fit, l));
        toAll.push_back(problem(all[l], l));
    }
    Solution solution;
    const SharedWeights judged = fitShared(toFit, start, kTurns);
    // The solution on all rows is near.
    solution.shared = fitShared(toAll, judged, 1);
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        const LinearLayer& now = layers_[l].downNow;
        solution.errors.push_back(
            relative(evidence[l].held, withBias(evidence[l].fit, weightsOf(judged, l), now, choices_[l])));
        solution.downs.push_back(withBias(all[l], weightsOf(solution.shared, l), now, choices_[l]));
    }
    return solution;
}

void SharedBranch::write(const UnitPlan& plan, const SharedWeights& shared) {
    ir::Edit edit(model_, "shared weights");
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        for (std::size_t up = 0; up < layers_[l].ups.size(); ++up)
            writeUp(edit, layers_[l].ups[up], plannedUp(original_, up, plan));
        writeDown(edit, layers_[l], {weightsOf(shared, l), original_[l].downNow.bias});
    }
    edit.commit();
}

void SharedBranch::write(const std::vector<LinearLayer>& downs) {
    ir::Edit edit(model_, "shared weights");
    for (std::size_t l = 0; l < layers_.size(); ++l) writeDown(edit, layers_[l], downs[l]);
    edit.commit();
}

UnitPlan SharedBranch::matched() const {
    const std::int64_t units = layers_.front().units();
    UnitPlan plan(static_cast<std::size_t>(units));
    for (std::size_t p = 0; p < plan.size(); ++p) plan[p].push_back({0, static_cast<std::int64_t>(p)});
    for (std::size_t l = 1; l < original_.size(); ++l) {
        const auto partner =
            bestAssignment(unitSimilarity(original_.front(), original_[l]), static_cast<std::size_t>(units));
        for (std::size_t p = 0; p < plan.size(); ++p) plan[p].push_back({l, static_cast<std::int64_t>(partner[p])});
    }
    return plan;
}

UnitPlan SharedBranch::pooled(const std::vector<Evidence>& evidence, SharedWeights& start) {
    const auto units = static_cast<std::size_t>(layers_.front().units());
    // A layer gives at least a quarter of an equal share: the errors of the last units say little.
    const std::size_t most = units - units / (4 * layers_.size());
    std::vector<RemovalOrder> orders;
    std::vector<std::vector<double>> costs;
    for (std::size_t l = 0; l < original_.size(); ++l) {
        const BranchWeights& layer = original_[l];
        const LayerSums all = evidence[l].all();
        RemovalProblem problem{hessian(all, choices_[l]), passes::refit(all, layer.downNow, choices_[l]).weight,
                               all.outputs, layer.rows};
        orders.push_back(removalOrder({std::move(problem)}, most));
        costs.push_back(orders.back().error);
        // A layer that puts out nothing but zeros loses nothing.
        for (double& cost : costs.back()) cost = all.yy > 0 ? cost / all.yy : 0.0;
    }
    const std::vector<std::size_t> gone = removals(costs, units * (layers_.size() - 1));
    UnitPlan plan;
    start.scales.assign(layers_.size(), std::vector<double>(static_cast<std::size_t>(layers_.front().inputs())));
    std::vector<std::size_t> given;
    for (std::size_t l = 0; l < original_.size(); ++l) {
        std::vector<bool> stays(units, true);
        for (std::size_t k = 0; k < gone[l]; ++k) stays[orders[l].groups[k]] = false;
        given.push_back(units - gone[l]);
        for (std::size_t p = 0; p < units; ++p) {
            if (!stays[p]) continue;
            for (const std::int64_t row : original_.front().rows[plan.size()]) start.scales[l][static_cast<std::size_t>(row)] = 1;
            plan.push_back({{l, static_cast<std::int64_t>(p)}});
        }
    }
    start.weight = plannedDown(original_, plan);
    way_ = fmt::format("{} of all layers: {}", units_, fmt::join(given, " + "));
    return plan;
}

void SharedBranch::share(ir::Edit& edit) const {
    const BranchWeights& first = layers_.front();
    BranchWeights shared = first;
    writeDown(edit, shared, {shared_.weight, first.downNow.bias});
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        const BranchWeights& layer = layers_[l];
        if (l > 0) {
            for (std::size_t up = 0; up < layer.ups.size(); ++up)
                edit.replaceAllUses(layer.ups[up].weight->constant, first.ups[up].weight->constant);
            edit.replaceAllUses(layer.down->constant, first.down->constant);
        }
        if (isOne(shared_.scales[l])) continue;
        const std::vector<float> scale(shared_.scales[l].begin(), shared_.scales[l].end());
        ir::Value* const factor = edit.addInitializer(
            layer.down->constant->name() + "_scale",
            Tensor::of<float>({static_cast<std::int64_t>(scale.size())}, std::span<const float>(scale)));
        edit.replaceInput(layer.downSite().node, 0, emit(edit, "Mul", {layer.downSite().input, factor}));
    }
}

}  // namespace tcompress::passes
