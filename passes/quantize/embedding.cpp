// Embedding tables by use: rows that are looked up often keep many bits, the long tail of a vocabulary few.
//
//   one table [rows, length]  →  up to `tables` tables of different formats behind one index map
//                                (tiered_table.h); rows are gathered packed and decoded after
//
// Every row's use is counted in the calibration data and smoothed (row_usage.h). What a row's error costs is
// its use times its energy; formats are integers of 8 to 2 bits with a scale a row (quantized_table.h) and
// codebooks (codebook_table.h); their errors are measured on rows of the table, and rows are divided so that
// the expected error is smallest within `bits_per_weight`, everything included (row_allocation.h). Without
// calibration data all rows count alike.
//
// Source: rows that are popular get more, after Ginart et al. 2021, "Mixed Dimension Embeddings with
// Application to Memory-Efficient Recommendation Systems"; codebooks: see codebook.h.
//
// Not handled: tables that are a linear layer's weight too, or looked up by a fused operator, or with indices
// of unknown rank; weights that are not float32.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "lib/calibration/collector.h"
#include "lib/calibration/token_counts.h"
#include "lib/data/split.h"
#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/quantize/codebook_table.h"
#include "passes/quantize/group_quantizer.h"
#include "passes/quantize/quantized_table.h"
#include "passes/quantize/row_allocation.h"
#include "passes/quantize/row_usage.h"
#include "passes/quantize/tiered_table.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/embedding";

/// Share of the samples that the smoothing is chosen on.
constexpr double kHeldBack = 0.25;
/// Rows that formats are measured on.
constexpr std::int64_t kMeasuredRows = 2048;

struct Options {
    double bitsPerWeight = 4;
    std::int64_t tables = 3;
    bool codebooks = true;
    std::int64_t smallTableBits = 6;
    std::int64_t fewestRows = 4096;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("bits_per_weight", &Options::bitsPerWeight,
                "bits a weight of a table on average, with scales, codebooks and the index map")
        .range(1, 8.5)
        .option("tables", &Options::tables, "formats that the rows of a table are divided among at most")
        .range(1, 4)
        .option("codebooks", &Options::codebooks,
                "whether rows may be stored as numbers of codebook entries (1 to 2.5 bits a weight)")
        .option("small_table_bits", &Options::smallTableBits,
                "bits of tables with fewer rows than fewest_rows, whose size hardly matters")
        .range(2, 8)
        .option("fewest_rows", &Options::fewestRows, "rows from which on a table is divided")
        .range(1, 1e9)
        .option("targets", &Options::targets, "tables to quantize, by patterns; default: all")
        .option("ignore", &Options::ignore, "tables to leave alone, by patterns");
    return table;
}

/// How rows can be stored: integers (dimension 0) or codebook numbers.
struct Format {
    int bits = 0;
    std::int64_t dimension = 0;
    std::int64_t size = 0;

    std::string describe() const {
        return dimension == 0 ? fmt::format("{} bits", bits)
                              : fmt::format("codebook of {} × {}", size, dimension);
    }
};

constexpr Format kFormats[] = {{8, 0, 0},    {6, 0, 0},   {5, 0, 0},    {4, 0, 0},    {3, 0, 0},  {2, 0, 0},
                               {0, 4, 1024}, {0, 4, 256}, {0, 8, 4096}, {0, 8, 1024}, {0, 8, 256}};

QuantizationRule ruleFor(int bits) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = Symmetry::asymmetric;
    rule.range = bits < 8 ? RangeChoice::mse : RangeChoice::minmax;
    rule.scaleType = DType::float16;
    return rule;
}

/// The rows of a table in some order, as a table of their own.
std::vector<float> pickedRows(std::span<const float> table, std::int64_t length,
                              std::span<const std::int64_t> rows) {
    std::vector<float> result;
    result.reserve(rows.size() * static_cast<std::size_t>(length));
    for (const std::int64_t row : rows) {
        const float* source = table.data() + row * length;
        result.insert(result.end(), source, source + length);
    }
    return result;
}

class TableQuantizer {
  public:
    TableQuantizer(const Options& options, const PassContext& context, const TargetWeight& weight,
                   std::vector<double> usage)
        : options_(options),
          context_(context),
          name_(weight.constant->name()),
          table_(weight.constant->constant()->data<float>()),
          rows_(weight.constant->constant()->shape()[0]),
          length_(weight.constant->constant()->shape()[1]),
          usage_(std::move(usage)) {}

    /// False when a weight is NaN or infinite.
    bool quantize(ir::Edit& edit, const TargetWeight& weight, PassReport& report) {
        if (!std::all_of(table_.begin(), table_.end(), [](float value) { return std::isfinite(value); }))
            return false;
        sortRows();
        const std::vector<RowTier> tiers = allocate();
        if (tiers.size() == 1) std::iota(order_.begin(), order_.end(), 0);
        std::vector<TablePart> parts;
        std::string change;
        for (const RowTier& tier : tiers) {
            parts.push_back(store(edit, tier));
            change += fmt::format("{}{} rows in {}", change.empty() ? "" : ", ", tier.end - tier.begin,
                                  usable_[tier.format].describe());
        }
        TieredTable tiered(edit, name_, order_, std::move(parts));
        for (const analysis::Site* site : weight.sites) {
            tiered.readBy(*site->node);
            report.changed.push_back({site->name,
                                      fmt::format("{} to {}", describe(*weight.constant->constant()), change),
                                      std::sqrt(lost_ / std::max(all_, 1e-300))});
        }
        return true;
    }

  private:
    std::span<const float> row(std::int64_t index) const {
        return table_.subspan(static_cast<std::size_t>(index * length_), static_cast<std::size_t>(length_));
    }

    double energy(std::int64_t index) const {
        double sum = 0;
        for (const float value : row(index)) sum += static_cast<double>(value) * value;
        return sum;
    }

    /// Rows whose error costs most come first.
    void sortRows() {
        std::vector<double> costs(static_cast<std::size_t>(rows_));
        for (std::int64_t i = 0; i < rows_; ++i)
            costs[static_cast<std::size_t>(i)] = usage_[static_cast<std::size_t>(i)] * energy(i);
        order_.resize(costs.size());
        std::iota(order_.begin(), order_.end(), 0);
        std::stable_sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) {
            return costs[static_cast<std::size_t>(a)] > costs[static_cast<std::size_t>(b)];
        });
        for (const std::int64_t index : order_) costs_.push_back(costs[static_cast<std::size_t>(index)]);
        all_ = std::accumulate(costs.begin(), costs.end(), 0.0);
    }

    std::vector<RowTier> allocate() {
        const bool divided = rows_ >= options_.fewestRows;
        std::vector<RowFormat> formats;
        for (const Format& format : kFormats) {
            if (format.dimension > 0 &&
                (!options_.codebooks || length_ % format.dimension != 0 || format.size > rows_))
                continue;
            if (!divided && format.bits != options_.smallTableBits) continue;
            usable_.push_back(format);
            formats.push_back(measured(format));
        }
        RowBudget budget;
        budget.bytes = divided ? options_.bitsPerWeight / 8 * static_cast<double>(rows_ * length_) : HUGE_VAL;
        budget.bytesOfSeveralTables = static_cast<double>(TieredTable::mapBytes(rows_));
        budget.mostFormats = divided ? static_cast<std::size_t>(options_.tables) : 1;
        const std::vector<RowTier> tiers = allocateRows(costs_, formats, budget);
        if (tiers.empty())
            throw PassError(
                fmt::format("{}: table '{}' cannot be stored in {} bits a weight; give more "
                            "bits_per_weight, or allow codebooks",
                            kPass, name_, options_.bitsPerWeight));
        return tiers;
    }

    /// Size of a row, and the mean error on rows spread over the table by cost.
    RowFormat measured(const Format& format) const {
        const std::int64_t count = std::min(rows_, kMeasuredRows);
        std::vector<std::int64_t> picked;
        for (std::int64_t i = 0; i < count; ++i)
            picked.push_back(order_[static_cast<std::size_t>(i * rows_ / count)]);
        const std::vector<float> rows = pickedRows(table_, length_, picked);
        double all = 0;
        for (const float value : rows) all += static_cast<double>(value) * value;
        RowFormat result;
        if (format.dimension == 0) {
            const auto quantized =
                quantizeWeights(rows, groupedLayout({count, length_}, 1, length_), ruleFor(format.bits));
            result.bytesPerRow = static_cast<double>(QuantizedTable::sizeBytes(ruleFor(format.bits), rows_,
                                                                               length_, length_)) /
                                 static_cast<double>(rows_);
            result.error = quantized->relativeError * quantized->relativeError;
            return result;
        }
        // Learnt from other rows than those it is measured on.
        std::vector<std::int64_t> others;
        for (std::int64_t i = 0; i < count; ++i)
            others.push_back(order_[static_cast<std::size_t>((2 * i + 1) * rows_ / (2 * count) % rows_)]);
        const std::vector<double> alike(others.size(), 1.0);
        const Codebook codebook =
            trainCodebook(pickedRows(table_, length_, others), alike, length_,
                          {format.dimension, format.size, kMeasuringIterations, kMeasuringSamples},
                          context_.random(name_ + format.describe()));
        const CodebookCodes codes = encodeRows(rows, length_, codebook);
        const double lost = std::accumulate(codes.squaredErrors.begin(), codes.squaredErrors.end(), 0.0);
        result.bytesPerRow =
            static_cast<double>(CodebookTable::sizeBytes(format.dimension, format.size, rows_, length_)) /
            static_cast<double>(rows_);
        result.fixedBytes = static_cast<double>(CodebookTable::codebookBytes(format.dimension, format.size));
        result.error = all > 0 ? lost / all : 0;
        return result;
    }

    TablePart store(ir::Edit& edit, const RowTier& tier) {
        const Format& format = usable_[tier.format];
        const std::int64_t count = tier.end - tier.begin;
        const std::span<const std::int64_t> picked(order_.data() + tier.begin,
                                                   static_cast<std::size_t>(count));
        const std::vector<float> rows = pickedRows(table_, length_, picked);
        std::vector<double> usage;
        for (const std::int64_t index : picked) usage.push_back(usage_[static_cast<std::size_t>(index)]);
        if (format.dimension > 0) {
            const Codebook codebook = trainCodebook(rows, usage, length_, {format.dimension, format.size},
                                                    context_.random(name_ + "/codebook"));
            const CodebookCodes codes = encodeRows(rows, length_, codebook);
            for (std::size_t i = 0; i < usage.size(); ++i) lost_ += usage[i] * codes.squaredErrors[i];
            const auto table = std::make_shared<CodebookTable>(edit, name_, codebook, codes.codes, count);
            return {count,
                    [table](ir::Value* indices, std::int64_t rank) { return table->rows(indices, rank); }};
        }
        const auto quantized =
            quantizeWeights(rows, groupedLayout({count, length_}, 1, length_), ruleFor(format.bits));
        const std::vector<float> after = dequantizeWeights(*quantized);
        for (std::size_t i = 0; i < after.size(); ++i)
            lost_ += usage[i / static_cast<std::size_t>(length_)] *
                     std::pow(static_cast<double>(after[i]) - rows[i], 2);
        const auto table = std::make_shared<QuantizedTable>(edit, name_, *quantized);
        return {count, [table](ir::Value* indices, std::int64_t rank) { return table->rows(indices, rank); }};
    }

    static constexpr std::int64_t kMeasuringIterations = 6;
    static constexpr std::int64_t kMeasuringSamples = 1 << 15;

    const Options& options_;
    const PassContext& context_;
    std::string name_;
    std::span<const float> table_;
    std::int64_t rows_, length_;
    std::vector<double> usage_;
    std::vector<std::int64_t> order_;  ///< row numbers, most costly first
    std::vector<double> costs_;        ///< in that order
    std::vector<Format> usable_;
    double lost_ = 0, all_ = 0;
};

class QuantizeEmbedding : public pipeline::Pass {
  public:
    explicit QuantizeEmbedding(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const auto& sites = context.view(model).sites;
        if (options_.targets.empty() && std::none_of(sites.begin(), sites.end(), [](const auto& site) {
                return site.role == analysis::SiteRole::embedding;
            })) {
            report.notes.push_back("the model has no embedding tables");
            return report;
        }
        const WeightQuery query{
            options_.targets.empty() ? std::vector<std::string>{"role:embedding"} : options_.targets,
            options_.ignore, WeightQuery::Tables::always, kFewestValuesToStoreNarrower,
            kFewestTableValuesToStoreNarrower};
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query, report);
        ir::Edit edit(model, kPass);
        context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
        for (const TargetWeight& weight : weights) {
            if (const std::string reason = refusal(weight); !reason.empty())
                skip(report, weight, reason);
            else if (!TableQuantizer(options_, context, weight, usage(model, context, weight, report))
                          .quantize(edit, weight, report))
                skip(report, weight, kNotFinite);
            context.progress().step();
        }
        context.progress().end();
        edit.commit();
        return report;
    }

  private:
    static std::string refusal(const TargetWeight& weight) {
        if (weight.hasLinear()) return "its table is a linear layer's weight too, or no table";
        if (weight.constant->constant()->rank() != 2) return "its table is no matrix";
        for (const analysis::Site* site : weight.sites) {
            if (std::string reason = QuantizedTable::refusal(*site->node, 2, 1); !reason.empty())
                return reason;
        }
        return {};
    }

    static std::vector<double> usage(const ir::Model& model, const PassContext& context,
                                     const TargetWeight& weight, PassReport& report) {
        const std::int64_t rows = weight.constant->constant()->shape()[0];
        const std::vector<double> alike(static_cast<std::size_t>(rows), 1.0 / static_cast<double>(rows));
        if (!context.hasCalibration()) {
            report.notes.push_back(
                fmt::format("'{}': no calibration data, so all {} rows count alike", weight.name(), rows));
            return alike;
        }
        const data::Split split = data::split(context.givenCalibration(kPass, "rows are counted"), kHeldBack);
        return smoothedUsage(counted(model, context, weight, split.fit),
                             counted(model, context, weight, split.heldBack));
    }

    /// Look-ups of each row; padding does not count.
    static std::vector<double> counted(const ir::Model& model, const PassContext& context,
                                       const TargetWeight& weight, const data::Dataset& samples) {
        const std::int64_t rows = weight.constant->constant()->shape()[0];
        calibration::Collector collector(model);
        std::vector<const calibration::TokenCounts*> counts;
        for (const analysis::Site* site : weight.sites)
            counts.push_back(&collector.add<calibration::TokenCounts>(calibration::Source(site->input)));
        context.collect(collector, samples);
        std::vector<double> result(static_cast<std::size_t>(rows), 0.0);
        for (const calibration::TokenCounts* seen : counts)
            for (const auto& [id, count] : seen->result()) {
                const std::int64_t row = id < 0 ? id + rows : id;
                if (row >= 0 && row < rows)
                    result[static_cast<std::size_t>(row)] += static_cast<double>(count);
            }
        return result;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo quantizeEmbedding() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "embedding";
    info.summary = "embedding tables within a budget: bits by how often rows are used";
    info.details =
        "Counts in the calibration data how often each row is looked up, smooths the counts by rank, and "
        "divides the rows among integer formats of 8 to 2 bits and codebooks so that the expected error is "
        "smallest within bits_per_weight. Rows are gathered packed and decoded after. Without calibration "
        "data all rows count alike.";
    info.paper =
        "Ginart et al. 2021, Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation "
        "Systems";
    info.data = pipeline::DataNeed::optional;
    bindOptions<QuantizeEmbedding>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(
            [](const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
                if (options.smallTableBits == 7)
                    diagnostics.add(pointer + "/small_table_bits",
                                    "7 is not supported; 8, 6, 5, 4, 3 and 2 are");
            }));
    return info;
}

}  // namespace tcompress::passes
