// Replaces a matrix by the product of two smaller ones, the best approximation of its rank in the Frobenius
// norm (Eckart and Young 1936, "The approximation of one matrix by another of lower rank").
//
//   y = x · W        W [m, n] = U · diag(s) · Vᵀ
//   ↓                A [m, r] = U · √s,  B [r, n] = √s · Vᵀ  (the r largest singular values)
//   y = (x · A) · B
//
// Done only where r (m + n) < m n. The relative error of the weights is the share of the discarded singular
// values: ‖W − A·B‖² / ‖W‖² = Σ_{i>r} sᵢ² / Σ sᵢ².
//
// Not handled: convolutions, fused operators with their weight inside, products whose left operand is the
// weight. Embedding tables are factorised only when targets name them (Lan et al. 2020, "ALBERT"): their
// singular values fall slowly.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/linalg.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "passes/low_rank/factor_products.h"
#include "passes/passes.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank/svd";

struct Options {
    std::optional<std::int64_t> rank;
    std::optional<double> rankRatio;
    std::optional<double> keep;
    std::optional<double> energy;
    std::int64_t multiple = 8;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("rank", &Options::rank, "rank of every factorised matrix, taken as it is")
        .range(1, 1 << 20)
        .option("rank_ratio", &Options::rankRatio,
                "rank as a share of min(m, n); matrices that this does not make smaller are left alone")
        .range(0, 1)
        .option("keep", &Options::keep, "share of a matrix's parameters that its two factors may hold")
        .range(0, 1)
        .option("energy", &Options::energy, "share of the squared singular values to keep")
        .range(0, 1)
        .option(
            "multiple", &Options::multiple,
            "ranks are rounded to a multiple of this (down; up with energy): matrix kernels like multiples "
            "of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "sites to factorise, by patterns; embeddings only when named")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const int given = options.rank.has_value() + options.rankRatio.has_value() + options.keep.has_value() +
                      options.energy.has_value();
    if (given != 1)
        diagnostics.add(
            pointer,
            fmt::format("exactly one of rank, rank_ratio, keep and energy says how small the factors "
                        "are; {} are given",
                        given));
}

/// A stored matrix [m, n] and what became of it.
struct Factorisation {
    const TargetWeight* weight = nullptr;
    std::int64_t m = 0, n = 0;
    std::optional<std::int64_t> rank;  ///< known without the singular values
    kernels::Svd svd;
    std::string refusal;
};

double energyOf(const std::vector<float>& singularValues, std::size_t begin, std::size_t end) {
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i)
        sum += static_cast<double>(singularValues[i]) * static_cast<double>(singularValues[i]);
    return sum;
}

class LowRankSvd : public pipeline::Pass {
  public:
    explicit LowRankSvd(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = targetWeights(
            context.view(model), {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}, report);
        std::vector<Factorisation> plans;
        for (const TargetWeight& weight : weights) {
            Factorisation plan = this->plan(weight);
            if (plan.refusal.empty())
                plans.push_back(std::move(plan));
            else
                skip(report, weight, plan.refusal);
        }
        // Look-ups last: replacing their rows then also reaches the products that were put before a layer.
        std::stable_partition(plans.begin(), plans.end(),
                              [](const Factorisation& plan) { return plan.weight->hasLinear(); });
        ir::Edit edit(model, kPass);
        context.progress().begin("factorising", static_cast<std::int64_t>(plans.size()));
        // A few at a time: each thread holds one decomposition, whatever the size of the model.
        const auto atOnce = static_cast<std::size_t>(threadCount());
        for (std::size_t first = 0; first < plans.size(); first += atOnce) {
            const std::size_t last = std::min(plans.size(), first + atOnce);
            parallelFor(static_cast<std::int64_t>(last - first),
                        [&](std::int64_t i) { decompose(plans[first + static_cast<std::size_t>(i)]); });
            for (std::size_t i = first; i < last; ++i) {
                finish(edit, plans[i], report);
                plans[i].svd = {};
                context.progress().step();
            }
        }
        context.progress().end();
        edit.commit();
        return report;
    }

  private:
    Factorisation plan(const TargetWeight& weight) const {
        Factorisation plan;
        plan.weight = &weight;
        for (const Site* site : weight.sites)
            if (plan.refusal.empty()) plan.refusal = factorRefusal(*site);
        const Shape& shape = weight.constant->constant()->shape();
        if (plan.refusal.empty() && shape.size() != 2)
            plan.refusal = fmt::format("its weight has rank {}, not 2", shape.size());
        if (plan.refusal.empty() && weight.hasEmbedding() && weight.hasLinear())
            plan.refusal = "its weight is both a table and a linear layer's";
        if (!plan.refusal.empty()) return plan;
        plan.m = shape[0];
        plan.n = shape[1];
        plan.rank = plannedRank(plan.m, plan.n);
        if (plan.rank) plan.refusal = factorSizeRefusal(plan.m, plan.n, *plan.rank);
        return plan;
    }

    std::int64_t roundedDown(double rank) const {
        const auto whole = static_cast<std::int64_t>(rank) / options_.multiple * options_.multiple;
        return std::max(whole, options_.multiple);
    }

    /// Nothing when the rank depends on the singular values.
    std::optional<std::int64_t> plannedRank(std::int64_t m, std::int64_t n) const {
        if (options_.rank) return *options_.rank;
        const auto rows = static_cast<double>(m), columns = static_cast<double>(n);
        if (options_.rankRatio) return roundedDown(*options_.rankRatio * std::min(rows, columns));
        if (options_.keep) return roundedDown(*options_.keep * rows * columns / (rows + columns));
        return std::nullopt;
    }

    /// The smallest rank that keeps the energy, rounded up.
    std::int64_t rankByEnergy(const std::vector<float>& singularValues) const {
        const double wanted = *options_.energy * energyOf(singularValues, 0, singularValues.size());
        double kept = 0;
        std::size_t rank = 0;
        while (rank < singularValues.size() && kept < wanted) {
            kept += energyOf(singularValues, rank, rank + 1);
            ++rank;
        }
        const std::int64_t multiple = options_.multiple;
        return std::max<std::int64_t>(1, (static_cast<std::int64_t>(rank) + multiple - 1) / multiple) *
               multiple;
    }

    void decompose(Factorisation& plan) const {
        try {
            plan.svd = kernels::svd(plan.weight->constant->constant()->data<float>(), plan.m, plan.n);
        } catch (const KernelError& problem) {
            plan.refusal = problem.what();
            return;
        }
        if (!plan.rank) {
            plan.rank = rankByEnergy(plan.svd.s);
            plan.refusal = factorSizeRefusal(plan.m, plan.n, *plan.rank);
        }
    }

    void finish(ir::Edit& edit, const Factorisation& plan, PassReport& report) const {
        if (!plan.refusal.empty()) return skip(report, *plan.weight, plan.refusal);
        const auto rank = static_cast<std::size_t>(*plan.rank);
        const double all = energyOf(plan.svd.s, 0, plan.svd.s.size());
        const double lost = energyOf(plan.svd.s, rank, plan.svd.s.size());
        const std::string change = fmt::format("[{}, {}] to rank {}: {} of {} parameters", plan.m, plan.n,
                                               rank, *plan.rank * (plan.m + plan.n), plan.m * plan.n);
        auto [left, right] = factors(plan);
        replaceByFactors(edit, *plan.weight, std::move(left), std::move(right));
        for (const Site* site : plan.weight->sites)
            report.changed.push_back({site->name, change, all > 0 ? std::sqrt(lost / all) : 0.0});
    }

    /// The stored matrix as left · right, in its own orientation.
    struct Factors {
        Tensor left, right;
    };
    static Factors factors(const Factorisation& plan) {
        const std::int64_t rank = *plan.rank;
        Factors result{Tensor(DType::float32, {plan.m, rank}), Tensor(DType::float32, {rank, plan.n})};
        const auto left = result.left.mutableData<float>(), right = result.right.mutableData<float>();
        std::vector<float> roots;
        for (std::int64_t i = 0; i < rank; ++i)
            roots.push_back(std::sqrt(plan.svd.s[static_cast<std::size_t>(i)]));
        for (std::int64_t row = 0; row < plan.m; ++row)
            for (std::int64_t i = 0; i < rank; ++i)
                left[static_cast<std::size_t>(row * rank + i)] =
                    plan.svd.u[static_cast<std::size_t>(row * plan.svd.r + i)] *
                    roots[static_cast<std::size_t>(i)];
        for (std::int64_t i = 0; i < rank; ++i)
            for (std::int64_t column = 0; column < plan.n; ++column)
                right[static_cast<std::size_t>(i * plan.n + column)] =
                    plan.svd.vt[static_cast<std::size_t>(i * plan.n + column)] *
                    roots[static_cast<std::size_t>(i)];
        return result;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo lowRankSvd() {
    pipeline::PassInfo info;
    info.type = "low-rank";
    info.method = "svd";
    info.summary = "a matrix becomes the product of two smaller ones (truncated SVD)";
    info.details =
        "Factorises linear layers where the two factors hold fewer parameters than the matrix, at a given "
        "rank, "
        "share of min(m, n), share of the parameters or share of the squared singular values. The error it "
        "reports is that of the weights.";
    info.paper = "Eckart and Young 1936, The approximation of one matrix by another of lower rank";
    info.defaultMethod = true;
    bindOptions<LowRankSvd>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkOptions));
    return info;
}

}  // namespace tcompress::passes
