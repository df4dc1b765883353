// Embedding tables by use: rows that are looked up often keep many bits, the long tail of a vocabulary few.
//
//   one table [rows, length]  →  up to `tables` tables of different formats behind one index map
//                                (tiered_table.h); rows are gathered packed and decoded after
//
// Every row's use is counted in the calibration data and smoothed (row_usage.h), and rows are divided among
// formats so that the expected error is smallest within `bits_per_weight`, everything included
// (tiered_quantizer.h). Without calibration data all rows count alike.
//
// Source: rows that are popular get more, after Ginart et al. 2021, "Mixed Dimension Embeddings with
// Application to Memory-Efficient Recommendation Systems"; codebooks: see codebook.h.
//
// Not handled: tables that are a linear layer's weight too, or looked up by a fused operator, or with indices
// of unknown rank; weights that are not float32.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/quantize/floating/float_form.h"
#include "passes/quantize/table/row_usage.h"
#include "passes/quantize/table/tiered_quantizer.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/embedding";

struct Options {
    double bitsPerWeight = 4;
    std::int64_t tables = 3;
    bool codebooks = true;
    std::int64_t smallTableBits = 6;
    std::int64_t fewestRows = kFewestRowsToDivide;
    bool requantize = false;
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
        .option("requantize", &Options::requantize, kRequantizeHelp)
        .option("targets", &Options::targets, "tables to quantize, by patterns; default: all")
        .option("ignore", &Options::ignore, "tables to leave alone, by patterns");
    return table;
}

class QuantizeEmbedding : public pipeline::Pass {
  public:
    explicit QuantizeEmbedding(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        if (options_.requantize) restore(model, context, report);
        const auto& sites = context.view(model).sites;
        if (options_.targets.empty() && std::none_of(sites.begin(), sites.end(), [](const auto& site) {
                return site.role == analysis::SiteRole::embedding;
            })) {
            report.notes.push_back("the model has no embedding tables");
            return report;
        }
        const std::vector<std::string> targets =
            options_.targets.empty() ? std::vector<std::string>{"role:embedding"} : options_.targets;
        const WeightQuery query{targets, options_.ignore, WeightQuery::Tables::always,
                                kFewestValuesToStoreNarrower, kFewestTableValuesToStoreNarrower};
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query, report);
        ir::Edit edit(model, kPass);
        context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
        for (const TargetWeight& weight : weights) {
            if (const std::string reason = tieredRefusal(weight); !reason.empty())
                skip(report, weight, reason);
            else
                storeTable(edit, weight,
                           encoded(weight, tableUsage(model, context, kPass, weight, report), context), report);
            context.progress().step();
        }
        context.progress().end();
        edit.commit();
        return report;
    }

  private:
    void restore(ir::Model& model, const PassContext& context, PassReport& report) const {
        std::vector<std::string> targets = options_.targets;
        const auto& sites = context.view(model).sites;
        // Not the linear layers, which this pass would leave in float32.
        if (targets.empty() && std::any_of(sites.begin(), sites.end(),
                                           [](const auto& site) { return site.node->is("Gather"); }))
            targets.push_back("op:Gather");
        if (!targets.empty()) restoreToRequantize(model, context, {targets, options_.ignore}, kPass, report);
    }

    EncodedTable encoded(const TargetWeight& weight, std::vector<double> usage,
                         const PassContext& context) const {
        const std::int64_t rows = weight.constant->constant()->shape()[0];
        const bool divided = rows >= options_.fewestRows;
        std::vector<TableFormat> formats;
        for (const TableFormat& format : tableFormats())
            if (divided ? options_.codebooks || format.dimension == 0 : format.bits == options_.smallTableBits)
                formats.push_back(format);
        const TieredQuantizer quantizer(context, weight, std::move(usage), formats);
        const auto values = static_cast<double>(weight.constant->constant()->size());
        const auto plan = quantizer.plan(divided ? options_.bitsPerWeight / 8 * values : HUGE_VAL,
                                         divided ? options_.tables : 1);
        if (!plan)
            throw PassError(
                fmt::format("{}: table '{}' cannot be stored in {} bits a weight; give more "
                            "bits_per_weight, or allow codebooks",
                            kPass, weight.constant->name(), options_.bitsPerWeight));
        return quantizer.encode(*plan);
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
        "Counts in the calibration data how often each row is looked up, smooths the counts by rank and length, and "
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
