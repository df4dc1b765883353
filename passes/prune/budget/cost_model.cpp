#include "passes/prune/budget/cost_model.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <fstream>
#include <iterator>

#include "lib/analysis/cost.h"
#include "lib/measure/energy.h"
#include "lib/measure/machine.h"
#include "lib/support/atomic_file.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::passes {
namespace {

CostMeter computedMeter(BudgetKind kind) {
    return [kind](const ir::Model& model) {
        const analysis::ModelCost cost = analysis::cost(model, analysis::recognise(model));
        if (kind == BudgetKind::macs) return static_cast<double>(cost.macs);
        if (kind == BudgetKind::parameters) return static_cast<double>(cost.parameters);
        const std::int64_t read = measure::weightBytesRead(model, cost.sequenceLength);
        return measure::modelledEnergy(cost, read, /*gridGramsPerKwh=*/0).joulesPerInference;
    };
}

const char* unitOf(BudgetKind kind) {
    switch (kind) {
        case BudgetKind::macs: return "multiply-accumulates";
        case BudgetKind::parameters: return "parameters";
        case BudgetKind::energy: return "modelled energy";
        case BudgetKind::speedup: break;
    }
    return "time";
}

std::string inputsText(const exec::Feeds& sample) {
    std::vector<std::string> inputs;
    for (const auto& [name, tensor] : sample) inputs.push_back(fmt::format("{} [{}]", name, fmt::join(tensor.shape(), ", ")));
    return fmt::format("{}", fmt::join(inputs, ", "));
}

}  // namespace

std::string BudgetTarget::describe() const {
    return kind == BudgetKind::speedup ? fmt::format("a speed-up of {}", value)
                                       : fmt::format("{} of the {}", value, unitOf(kind));
}

std::string BudgetTarget::describe(double cost, double whole) const {
    return kind == BudgetKind::speedup ? fmt::format("{:.2f} times as fast", whole / cost)
                                       : fmt::format("{:.3f} of the {}", cost / whole, unitOf(kind));
}

CostModel::CostModel(const ir::Model& model, const Anatomy& anatomy, const BudgetTarget& target, exec::Feeds sample,
                     const LatencyOptions& latency, const pipeline::PassContext& context)
    : model_(model), anatomy_(anatomy) {
    if (target.kind != BudgetKind::speedup) {
        meter_ = computedMeter(target.kind);
        table_ = measureCosts(model, anatomy, meter_, context.progress());
        origin_ = fmt::format("{}, computed", unitOf(target.kind));
        return;
    }
    const auto threads = static_cast<int>(latency.threads);
    const std::string key = latencyKey(model, sample, threads);
    const std::filesystem::path& cache = context.resources().cacheFolder;
    isNamed_ = !latency.table.empty();
    if (isNamed_)
        file_ = latency.table;
    else if (!cache.empty())
        file_ = cache / (key + ".latency.json");
    std::optional<CostTable> kept = load();
    const bool isKept = kept.has_value();
    if (isKept) table_ = std::move(*kept);
    if (isKept && isNamed_) {
        origin_ = fmt::format("latency by the table {}", file_.string());
        return;
    }
    origin_ = fmt::format("latency measured on {}, {} thread{}, inputs {}", measure::describeMachine().cpuModel, threads,
                          threads == 1 ? "" : "s", inputsText(sample));
    meter_ = [meter = LatencyMeter(std::move(sample), threads)](const ir::Model& variant) { return meter.seconds(variant); };
    if (isKept) return;
    table_ = measureCosts(model, anatomy, meter_, context.progress());
    keep();
}

std::optional<CostTable> CostModel::load() const {
    std::ifstream stream(file_, std::ios::binary);
    if (file_.empty() || !stream) return std::nullopt;
    std::string problem;
    std::optional<CostTable> table;
    if (std::filesystem::is_directory(file_)) {
        problem = "it is a folder";
    } else {
        const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
        table = readTable(text, problem);
    }
    if (table && !table->covers(anatomy_)) {
        problem = "it is of a model of other shapes, or for other options";
        table.reset();
    }
    if (table) return table;
    if (isNamed_)
        throw DataError(fmt::format("{}: not a latency table of this model ({}); remove it to have it measured anew",
                                    file_.string(), problem));
    log::warning("{}: not a latency table of this model ({}); it is measured anew", file_.string(), problem);
    return std::nullopt;
}

double CostModel::cost(const Assignment& assignment) {
    const std::string key = assignmentKey(assignment);
    if (const auto known = table_.assignments.find(key); known != table_.assignments.end()) return known->second;
    if (!meter_) return table_.predicted(anatomy_, assignment);
    return table_.assignments[key] = meter_(shaped(model_, anatomy_, assignment));
}

void CostModel::keep() const {
    if (file_.empty() || !meter_) return;
    try {
        if (file_.has_parent_path()) std::filesystem::create_directories(file_.parent_path());
        writeFileAtomically(file_, tableText(table_, origin_));
    } catch (const std::exception& error) {
        if (isNamed_) throw;
        log::warning("the latency table is not kept: {}", error.what());
    }
}

}  // namespace tcompress::passes
