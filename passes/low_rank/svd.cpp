// Replaces a weight matrix by the product of two thin ones, its truncated singular value decomposition.
//
//   y = x W,  W [m, n]      →      y = (x A) B,  A = U_r √S_r [m, r],  B = √S_r V_rᵀ [r, n]
//
// This is the best approximation of rank r in the Frobenius norm (Eckart and Young 1936); its relative error
// is the square root of the share of the squared singular values that were cut. Only where r (m + n) < m n,
// so that it is really smaller. Not handled: embedding tables, convolutions, and products whose left operand
// is the weight.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "kernels/linalg.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "passes/passes.h"
#include "passes/support/emit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank";

struct Options {
    std::optional<std::int64_t> rank;
    std::optional<double> rankRatio, keep, energy;
    std::int64_t multiple = 8;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("rank", &Options::rank, "rank of every matrix")
        .range(1, 1 << 20)
        .option("rank_ratio", &Options::rankRatio, "rank as a share of the smaller side of the matrix")
        .range(0.0, 1.0)
        .option("keep", &Options::keep,
                "largest share of a matrix's parameters that its two factors may have")
        .range(0.0, 1.0)
        .option("energy", &Options::energy, "smallest share of the squared singular values that must stay")
        .range(0.0, 1.0)
        .option("multiple", &Options::multiple,
                "round the rank to a multiple of this: matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "sites to factorise, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const int given = int{options.rank.has_value()} + int{options.rankRatio.has_value()} +
                      int{options.keep.has_value()} + int{options.energy.has_value()};
    if (given != 1)
        diagnostics.add(
            pointer,
            fmt::format("low-rank needs exactly one of rank, rank_ratio, keep and energy; {} are given",
                        given));
}

/// Why a site's product cannot become two; empty when it can.
std::string refusal(const Site& site) {
    if (isEmbedding(site)) return "an embedding table is looked up, not multiplied";
    if (!site.node->is("MatMul") && !site.node->is("Gemm"))
        return fmt::format("{} is not factorised, only MatMul and Gemm are", site.node->opType());
    if (site.input != site.node->input(0)) return "its weight is the left operand";
    if (site.node->attributeInt("transA", 0) != 0) return "its input is transposed (transA)";
    return {};
}

/// W as [m, n] with the summed axis first.
Tensor inputMajor(const TargetWeight& weight) {
    const Tensor& constant = *weight.constant->constant();
    return weight.inAxis == 0 ? constant : transpose(constant, {1, 0});
}

struct Factors {
    std::int64_t rank = 0;
    Tensor first, second;  ///< [m, rank], [rank, n]
    double relativeError = 0;
};

class LowRankSvd : public pipeline::Pass {
  public:
    explicit LowRankSvd(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = factorable(context, model, report);
        std::vector<std::optional<Factors>> factors(weights.size());
        context.progress().begin("factorising", static_cast<std::int64_t>(weights.size()));
        parallelFor(static_cast<std::int64_t>(weights.size()), [&](std::int64_t i) {
            factors[static_cast<std::size_t>(i)] = factorise(weights[static_cast<std::size_t>(i)]);
        });
        context.progress().step(static_cast<std::int64_t>(weights.size()));
        context.progress().end();
        ir::Edit edit(model, kPass);
        for (std::size_t i = 0; i < weights.size(); ++i) {
            if (factors[i])
                rewrite(edit, weights[i], *factors[i], report);
            else
                skip(report, weights[i], "at this rank its two factors would not be smaller than the matrix");
        }
        if (!edit.empty()) edit.commit();
        return report;
    }

  private:
    std::vector<TargetWeight> factorable(const PassContext& context, const ir::Model& model,
                                         PassReport& report) const {
        std::vector<TargetWeight> weights;
        for (TargetWeight& weight :
             targetWeights(context.view(model), options_.targets, options_.ignore, report)) {
            std::string reason;
            for (const Site* site : weight.sites)
                if (reason.empty()) reason = refusal(*site);
            const std::vector<float> values =
                reason.empty() ? toFloat32(*weight.constant->constant()) : std::vector<float>{};
            if (reason.empty() &&
                !std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
                reason = "its weight holds NaN or infinity";
            if (reason.empty())
                weights.push_back(std::move(weight));
            else
                skip(report, weight, reason);
        }
        return weights;
    }

    std::int64_t chooseRank(std::int64_t m, std::int64_t n, const std::vector<float>& singularValues) const {
        const auto smaller = static_cast<double>(std::min(m, n));
        const auto multiple = static_cast<double>(options_.multiple);
        const auto floorTo = [&](double rank) { return std::floor(rank / multiple) * multiple; };
        const auto nearestTo = [&](double rank) {
            return std::max(multiple, std::round(rank / multiple) * multiple);
        };
        double rank = 0;
        if (options_.rank) rank = nearestTo(static_cast<double>(*options_.rank));
        if (options_.rankRatio) rank = nearestTo(*options_.rankRatio * smaller);
        if (options_.keep)
            rank = floorTo(*options_.keep * static_cast<double>(m) * static_cast<double>(n) /
                           static_cast<double>(m + n));
        if (options_.energy) rank = std::ceil(rankOfEnergy(singularValues) / multiple) * multiple;
        return static_cast<std::int64_t>(std::clamp(rank, 1.0, smaller));
    }

    double rankOfEnergy(const std::vector<float>& singularValues) const {
        const double total = squaredSum(singularValues, 0);
        double kept = 0;
        for (std::size_t i = 0; i < singularValues.size(); ++i) {
            kept += static_cast<double>(singularValues[i]) * singularValues[i];
            if (kept >= *options_.energy * total) return static_cast<double>(i + 1);
        }
        return static_cast<double>(singularValues.size());
    }

    static double squaredSum(const std::vector<float>& values, std::int64_t from) {
        return std::accumulate(values.begin() + from, values.end(), 0.0, [](double sum, float value) {
            return sum + static_cast<double>(value) * value;
        });
    }

    /// Nothing where the factors would not be smaller.
    std::optional<Factors> factorise(const TargetWeight& weight) const {
        const Tensor matrix = inputMajor(weight);
        const std::int64_t m = matrix.shape()[0], n = matrix.shape()[1];
        if (!options_.energy && !smaller(chooseRank(m, n, {}), m, n)) return std::nullopt;
        const kernels::Svd svd = kernels::svd(matrix.data<float>(), m, n);
        Factors factors;
        factors.rank = chooseRank(m, n, svd.s);
        if (!smaller(factors.rank, m, n)) return std::nullopt;
        factors.first = Tensor(DType::float32, {m, factors.rank});
        factors.second = Tensor(DType::float32, {factors.rank, n});
        const auto first = factors.first.mutableData<float>(), second = factors.second.mutableData<float>();
        for (std::int64_t k = 0; k < factors.rank; ++k) {
            const float root = std::sqrt(svd.s[static_cast<std::size_t>(k)]);
            for (std::int64_t i = 0; i < m; ++i)
                first[static_cast<std::size_t>(i * factors.rank + k)] =
                    svd.u[static_cast<std::size_t>(i * svd.r + k)] * root;
            for (std::int64_t j = 0; j < n; ++j)
                second[static_cast<std::size_t>(k * n + j)] =
                    svd.vt[static_cast<std::size_t>(k * n + j)] * root;
        }
        const double total = squaredSum(svd.s, 0);
        factors.relativeError = total > 0 ? std::sqrt(squaredSum(svd.s, factors.rank) / total) : 0.0;
        return factors;
    }

    static bool smaller(std::int64_t rank, std::int64_t m, std::int64_t n) { return rank * (m + n) < m * n; }

    /// The site's own node becomes the second product, so that its name, bias and output stay.
    static void rewrite(ir::Edit& edit, const TargetWeight& weight, const Factors& factors,
                        PassReport& report) {
        const std::string& name = weight.constant->name();
        ir::Value* first = edit.addInitializer(name + "_u", factors.first);
        ir::Value* second = nullptr;
        ir::Value* secondTransposed = nullptr;
        for (const Site* site : weight.sites) {
            const bool transposed = site->node->attributeInt("transB", 0) != 0;
            ir::Value*& factor = transposed ? secondTransposed : second;
            if (factor == nullptr)
                factor = edit.addInitializer(name + "_v",
                                             transposed ? transpose(factors.second, {1, 0}) : factors.second);
            ir::Value* hidden = emit(edit, "MatMul", site->name + "_u", {site->input, first});
            edit.replaceInput(site->node, 0, hidden);
            edit.replaceInput(site->node, 1, factor);
            report.changed.push_back({site->name,
                                      fmt::format("[{}, {}] to rank {}", factors.first.shape()[0],
                                                  factors.second.shape()[1], factors.rank),
                                      factors.relativeError});
        }
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo lowRankSvd() {
    pipeline::PassInfo info;
    info.type = "low-rank";
    info.method = "svd";
    info.summary = "replace a matrix by two thin ones: its truncated SVD";
    info.details =
        "Factorises the weights of linear layers where the two factors together are smaller than the matrix. "
        "Needs no "
        "calibration data. The error that the report gives for a site is that of its weights, ‖W − AB‖ / "
        "‖W‖.";
    info.paper = "Eckart and Young 1936, The Approximation of One Matrix by Another of Lower Rank";
    info.defaultMethod = true;
    bindOptions<LowRankSvd, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
