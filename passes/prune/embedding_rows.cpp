// Removes rows of token tables that are not needed: the vocabulary shrinks, the ids that the model takes stay what they are.
//
//   Gather(table [30522, 384], ids)   →   Gather(table [4000, 384], Cast(Gather(place [30522], ids)))
//
// `place` says where the row of an id is now, in the smallest type that holds it; ids whose row went read that of the
// unknown token. For ids whose rows stay nothing changes; for others the model gives what it gave for the unknown token.
// Source: Abdaoui, Pradel and Sigel 2020, "Load What You Need: Smaller Versions of Multilingual BERT".
// Not handled: tables that are also the output classes of a language model (refused: logits would lose their columns),
// quantized tables, tables indexed by something computed (positions).

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <set>

#include "lib/support/error.h"
#include "passes/passes.h"
#include "lib/ir/emit.h"
#include "passes/support/index_ranges.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "prune/embedding-rows";

struct Options {
    std::int64_t unknown = 0;
    std::vector<std::string> always;
    std::string rowsFile;
    std::int64_t minimumCount = 1;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("unknown", &Options::unknown, "id of the row that ids whose rows go read instead, such as that of [UNK]")
        .range(0, 1 << 30)
        .required()
        .option("always", &Options::always,
                "ids whose rows stay whatever the data say, by numbers and ranges such as \"0-4\": padding, separators, masks")
        .option("rows_file", &Options::rowsFile,
                "text file with the ids to keep, one a line or as ranges; left out: the ids in the calibration data as they were given")
        .option("minimum_count", &Options::minimumCount, "how often an id must occur in the calibration data for its row to stay")
        .range(1, std::numeric_limits<std::int32_t>::max())
        .option("targets", &Options::targets, "tables to work on, by patterns; left out: the largest that is indexed by ids that enter the model")
        .option("ignore", &Options::ignore, "tables to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    for (const std::string& range : options.always)
        if (!parseIndexRange(range))
            diagnostics.add(pointer + "/always", fmt::format("'{}' is neither a number nor a range such as \"0-4\"", range));
}

/// The graph input behind operators that do not change ids; null when they are computed. An input of positions is none:
/// how often one occurs says nothing about its use.
const ir::Value* idInput(const ir::Value* ids) {
    while (ids != nullptr && ids->producer() != nullptr) {
        const ir::Node& node = *ids->producer();
        const bool keeps = node.is("Identity") || node.is("Cast") || node.is("Reshape") || node.is("Squeeze") ||
                           node.is("Unsqueeze") || node.is("Flatten") || node.is("Transpose");
        ids = keeps ? node.input(0) : nullptr;
    }
    if (ids == nullptr || !ids->isGraphInput() || !isInteger(ids->dtype())) return nullptr;
    return ids->name().find("position") == std::string::npos ? ids : nullptr;
}

/// Which of a node's inputs holds the ids that index the table.
std::optional<std::size_t> idSlot(const Site& site) {
    const ir::Node& node = *site.node;
    if (node.is("Gather")) return node.attributeInt("axis", 0) == 0 ? std::optional<std::size_t>(1) : std::nullopt;
    // Inputs: ids, segments, words, positions, segment table.
    if (node.input(2) == site.operand) return 0;
    return std::nullopt;
}

/// The table as the pass sees it.
struct Table {
    const TargetWeight* weight = nullptr;
    std::set<const ir::Value*> inputs;  ///< graph inputs whose ids index it
    std::int64_t rows() const { return weight->constant->constant()->shape()[0]; }
};

class PruneEmbeddingRows : public pipeline::Pass {
  public:
    explicit PruneEmbeddingRows(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report, notTables;
        const bool named = !options_.targets.empty();
        const std::vector<TargetWeight> weights =
            targetWeights(context.view(model), {options_.targets, options_.ignore}, named ? report : notTables);
        std::vector<Table> tables;
        for (const TargetWeight& weight : weights) {
            if (!weight.hasEmbedding() && !named) continue;
            Table table{&weight, {}};
            const std::string refusal = read(table);
            if (refusal.empty())
                tables.push_back(std::move(table));
            else
                skip(report, weight, refusal);
        }
        if (!named) keepLargest(tables, report);
        ir::Edit edit(model, kPass);
        for (const Table& table : tables) prune(edit, context, table, report);
        if (!edit.empty()) edit.commit();
        return report;
    }

  private:
    static std::string read(Table& table) {
        const TargetWeight& weight = *table.weight;
        if (!weight.hasEmbedding()) return "it is no embedding table";
        if (weight.hasLinear()) {
            for (const Site* site : weight.sites)
                if (!isEmbedding(*site))
                    return fmt::format("its rows are also the outputs of '{}': without them logits would lose columns",
                                       site->name);
        }
        for (const Site* site : weight.sites) {
            if (site->operand != weight.constant || !idSlot(*site)) return "its rows are not what the ids number";
            const ir::Value* input = idInput(site->node->input(*idSlot(*site)));
            if (input == nullptr) return "what indexes it is computed, or positions: no token ids that enter the model";
            table.inputs.insert(input);
        }
        return {};
    }

    /// A list of token ids says nothing of token types and the like.
    static void keepLargest(std::vector<Table>& tables, PassReport& report) {
        std::int64_t most = 0;
        for (const Table& table : tables) most = std::max(most, table.rows());
        std::erase_if(tables, [&](const Table& table) {
            if (table.rows() < most) skip(report, *table.weight, "a smaller table than the largest; name it in targets to include it");
            return table.rows() < most;
        });
    }

    /// Ascending; nothing with a reason when the table stays.
    std::vector<std::int64_t> rowsThatStay(const PassContext& context, const Table& table, std::string& refusal) const {
        std::set<std::int64_t> stays;
        const std::int64_t rows = table.rows();
        const auto add = [&](std::int64_t id) {
            // As Gather reads them.
            const std::int64_t row = id < 0 ? id + rows : id;
            if (row >= 0 && row < rows) stays.insert(row);
        };
        if (options_.unknown >= rows) {
            refusal = fmt::format("the row of the unknown token, {}, is beyond its {} rows", options_.unknown, rows);
            return {};
        }
        add(options_.unknown);
        for (const std::string& range : options_.always)
            for (const std::int64_t id : parseIndexRange(range).value_or(std::vector<std::int64_t>())) add(id);
        if (!options_.rowsFile.empty()) {
            for (const std::int64_t id : listedRows(options_.rowsFile)) add(id);
        } else if (options_.always.empty() || context.hasCalibration()) {
            std::vector<std::int64_t> counts(static_cast<std::size_t>(rows));
            const data::Dataset& samples =
                context.givenCalibration(kPass, "the rows that stay are those of the ids in calibration data, unless rows_file or always list them");
            for (const auto& [name, array] : samples.arrays()) {
                if (std::none_of(table.inputs.begin(), table.inputs.end(), [&](const ir::Value* input) { return input->name() == name; }))
                    continue;
                for (const std::int64_t id : toInt64(array))
                    if (id >= -rows && id < rows) ++counts[static_cast<std::size_t>(id < 0 ? id + rows : id)];
            }
            for (std::int64_t row = 0; row < rows; ++row)
                if (counts[static_cast<std::size_t>(row)] >= options_.minimumCount) stays.insert(row);
        }
        return {stays.begin(), stays.end()};
    }

    static std::vector<std::int64_t> listedRows(const std::string& path) {
        std::ifstream file(path);
        if (!file || std::filesystem::is_directory(path))
            throw PassError(fmt::format("{}: rows_file '{}' cannot be read", kPass, path));
        std::vector<std::int64_t> rows;
        std::string line;
        for (std::int64_t number = 1; std::getline(file, line); ++number) {
            line.erase(std::remove(line.begin(), line.end(), '\r'), line.end());
            if (line.empty()) continue;
            const auto row = parseIndexRange(line);
            if (!row)
                throw PassError(fmt::format("{}: rows_file '{}', line {}: '{}' is neither an id nor a range such as 0-4",
                                            kPass, path, number, line));
            rows.insert(rows.end(), row->begin(), row->end());
        }
        return rows;
    }

    void prune(ir::Edit& edit, const PassContext& context, const Table& table, PassReport& report) const {
        std::string refusal;
        const std::vector<std::int64_t> stays = rowsThatStay(context, table, refusal);
        const TargetWeight& weight = *table.weight;
        const Tensor& whole = *weight.constant->constant();
        const DType placeType = stays.size() <= 1U << 8U ? DType::uint8 : stays.size() <= 1U << 16U ? DType::uint16 : DType::int32;
        Tensor places = placesOf(stays, table.rows());
        places = convert(places, placeType);
        if (refusal.empty()) {
            const auto saved = static_cast<std::int64_t>(table.rows() - std::ssize(stays)) * whole.shape()[1] * 4;
            if (saved <= static_cast<std::int64_t>(places.sizeBytes()))
                refusal = fmt::format("{} of its {} rows stay, and the table of places would take more than what is saved",
                                      stays.size(), table.rows());
        }
        if (!refusal.empty()) return skip(report, weight, refusal);
        std::vector<bool> mask(static_cast<std::size_t>(table.rows()));
        for (const std::int64_t row : stays) mask[static_cast<std::size_t>(row)] = true;
        edit.setConstant(weight.constant, compress(whole, 0, mask));
        ir::Value* const place = edit.addInitializer(weight.constant->name() + "_places", std::move(places));
        std::map<const ir::Value*, ir::Value*> remapped;  // ids that several look-ups read
        for (const Site* site : weight.sites) {
            ir::Value* const ids = site->node->input(*idSlot(*site));
            ir::Value*& now = remapped[ids];
            if (now == nullptr) now = emitCast(edit, emit(edit, "Gather", {place, ids}), ids->dtype());
            edit.replaceInput(site->node, *idSlot(*site), now);
            report.changed.push_back({site->name, fmt::format("{} rows to {}; other ids read row {}", table.rows(),
                                                              stays.size(), options_.unknown)});
        }
    }

    Tensor placesOf(const std::vector<std::int64_t>& stays, std::int64_t rows) const {
        const auto placeOf = [&](std::int64_t row) {
            return static_cast<std::int64_t>(std::lower_bound(stays.begin(), stays.end(), row) - stays.begin());
        };
        std::vector<std::int64_t> places(static_cast<std::size_t>(rows), placeOf(options_.unknown));
        for (const std::int64_t row : stays) places[static_cast<std::size_t>(row)] = placeOf(row);
        return Tensor::of<std::int64_t>({rows}, std::span<const std::int64_t>(places));
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo pruneEmbeddingRows() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "embedding-rows";
    info.summary = "remove rows of token tables that the data do not use; token ids stay as they are";
    info.details =
        "Keeps the rows of a list, or of the ids that occur in the calibration data as they were given, and those of the ids "
        "always named. A small table in the graph says where an id's row is now, so tokenizers stay as they are; ids whose "
        "rows went read the unknown token's. For ids whose rows stay nothing changes. How many tokens of new text read the "
        "unknown row instead of their own depends on how much text the data hold: judge it on text of your own.";
    info.paper = "Abdaoui, Pradel and Sigel 2020, Load What You Need: Smaller Versions of Multilingual BERT";
    info.data = pipeline::DataNeed::optional;
    bindOptions<PruneEmbeddingRows, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
