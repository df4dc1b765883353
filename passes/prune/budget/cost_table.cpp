#include "passes/prune/budget/cost_table.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "lib/support/sha256.h"

namespace tcompress::passes {
namespace {

using nlohmann::json;

constexpr int kVersion = 2;

/// Numbers of units that are looked at; between them costs are interpolated.
std::vector<std::int64_t> knots(const Part& part) {
    constexpr std::size_t kMost = 7;
    const std::vector<std::int64_t> kept = part.fewerUnits();
    std::vector<std::int64_t> result;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        const std::size_t left = kept.size() - 1 - i, stride = (kept.size() + kMost - 1) / kMost;
        if (left % stride == 0) result.push_back(kept[i]);
    }
    if (part.canGo()) result.push_back(0);
    return result;
}

using Rows = std::map<std::string, std::map<std::int64_t, double>>;

json rowsJson(const Rows& byShape) {
    json result = json::object();
    for (const auto& [shape, rows] : byShape)
        for (const auto& [key, value] : rows) result[shape].push_back({key, value});
    return result;
}

Rows rowsOf(const json& content) {
    Rows result;
    for (const auto& [shape, rows] : content.items())
        for (const json& row : rows) result[shape][row.at(0)] = row.at(1);
    return result;
}

json tableJson(const CostTable& table, const std::string& origin) {
    return {{"version", kVersion},
            {"origin", origin},
            {"whole", table.whole},
            {"saved", rowsJson(table.saved)},
            {"saved_by_ranks", rowsJson(table.savedByRanks)},
            {"saved_by_block", table.savedByBlock},
            {"assignments", table.assignments}};
}

std::string digestOf(const json& table) {
    const std::string text = table.dump();
    return sha256(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

std::string blockShape(const Anatomy& anatomy, const PartGroup& block) {
    std::vector<std::string> shapes;
    for (const std::size_t part : block.parts) shapes.push_back(anatomy.parts[part].shape);
    return fmt::format("{}", fmt::join(shapes, "; "));
}

std::string assignmentKey(const Assignment& assignment) {
    std::vector<std::string> words;
    for (const PartChoice& choice : assignment)
        words.push_back(choice.isRanks() ? fmt::format("{}%", choice.rankPercent) : fmt::format("{}", choice.units));
    return fmt::format("{}", fmt::join(words, " "));
}

double CostTable::savedBy(const Part& part, const PartChoice& choice) const {
    if (choice.isRanks()) return savedByRanks.at(part.shape).at(choice.rankPercent);
    const std::int64_t keep = choice.units;
    const auto& rows = saved.at(part.shape);
    if (keep >= part.units) return 0;
    const auto above = rows.lower_bound(keep);
    const std::int64_t high = above == rows.end() ? part.units : above->first;
    const double savedHigh = above == rows.end() ? 0.0 : above->second;
    if (high == keep || above == rows.begin()) return savedHigh;
    // A dropped sublayer is no number of units that others could be interpolated from.
    const auto below = std::prev(above);
    if (below->first == 0) return savedHigh;
    const double share = static_cast<double>(high - keep) / static_cast<double>(high - below->first);
    return savedHigh + share * (below->second - savedHigh);
}

double CostTable::predicted(const Anatomy& anatomy, const Assignment& assignment) const {
    double cost = whole;
    for (const PartGroup& block : anatomy.blocks) {
        if (block.isDropped(assignment)) {
            cost -= savedByBlock.at(blockShape(anatomy, block));
            continue;
        }
        for (const std::size_t part : block.parts) cost -= savedBy(anatomy.parts[part], assignment[part]);
    }
    return cost;
}

bool CostTable::covers(const Anatomy& anatomy) const {
    for (const Part& part : anatomy.parts) {
        const auto rows = saved.find(part.shape);
        if (rows == saved.end()) return false;
        for (const std::int64_t keep : knots(part))
            if (!rows->second.contains(keep)) return false;
        const auto ranks = savedByRanks.find(part.shape);
        for (const std::int64_t percent : part.rankPercents())
            if (ranks == savedByRanks.end() || !ranks->second.contains(percent)) return false;
    }
    return std::all_of(anatomy.blocks.begin(), anatomy.blocks.end(), [&](const PartGroup& block) {
        return !block.canGo || savedByBlock.contains(blockShape(anatomy, block));
    });
}

CostTable measureCosts(const ir::Model& model, const Anatomy& anatomy, const CostMeter& meter, Progress& progress) {
    CostTable table;
    table.whole = meter(model);
    std::map<std::string, std::vector<std::size_t>> alike;
    for (std::size_t i = 0; i < anatomy.parts.size(); ++i) alike[anatomy.parts[i].shape].push_back(i);
    std::map<std::string, std::vector<std::size_t>> blocksAlike;
    for (std::size_t i = 0; i < anatomy.blocks.size(); ++i)
        if (anatomy.blocks[i].canGo) blocksAlike[blockShape(anatomy, anatomy.blocks[i])].push_back(i);
    std::int64_t total = std::ssize(blocksAlike);
    for (const auto& [shape, parts] : alike) {
        const Part& part = anatomy.parts[parts.front()];
        total += std::ssize(knots(part)) + std::ssize(part.rankPercents());
    }
    progress.begin("costs", total);
    Rows costs, rankCosts;
    for (const auto& [shape, parts] : alike) {
        const Part& first = anatomy.parts[parts.front()];
        const auto costOf = [&, &parts = parts](const PartChoice& choice) {
            Assignment assignment = anatomy.whole();
            for (const std::size_t part : parts) assignment[part] = choice;
            const double cost = meter(shaped(model, anatomy, assignment));
            progress.step();
            return cost;
        };
        for (const std::int64_t keep : knots(first)) costs[shape][keep] = costOf(keep);
        for (const std::int64_t percent : first.rankPercents()) rankCosts[shape][percent] = costOf({first.units, percent});
    }
    std::map<std::string, std::pair<double, std::int64_t>> blockCosts;
    for (const auto& [shape, blocks] : blocksAlike) {
        Assignment assignment = anatomy.whole();
        // Every other block, so that neighbours do not share one map.
        std::int64_t count = 0;
        for (std::size_t i = 0; i < blocks.size(); i += 2, ++count)
            for (const std::size_t part : anatomy.blocks[blocks[i]].parts) assignment[part] = 0;
        blockCosts[shape] = {meter(shaped(model, anatomy, assignment)), count};
        progress.step();
    }
    progress.end();
    // Timing errs to one side: the lesser of two is nearer, and fewer units never cost more. A dropped sublayer has a
    // linear map in its place.
    table.whole = std::min(table.whole, meter(model));
    for (const auto& [shape, rows] : costs) {
        double most = 0;
        for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
            const double saved = (table.whole - row->second) / static_cast<double>(alike[shape].size());
            table.saved[shape][row->first] = row->first == 0 ? saved : (most = std::max(most, saved));
        }
    }
    for (const auto& [shape, rows] : rankCosts)
        for (const auto& [percent, cost] : rows)
            table.savedByRanks[shape][percent] = (table.whole - cost) / static_cast<double>(alike[shape].size());
    for (const auto& [shape, cost] : blockCosts)
        table.savedByBlock[shape] = (table.whole - cost.first) / static_cast<double>(cost.second);
    return table;
}

std::string tableText(const CostTable& table, const std::string& origin) {
    json content = tableJson(table, origin);
    // As it will be read again.
    content = json::parse(content.dump());
    const std::string digest = digestOf(content);
    content["sha256"] = digest;
    return content.dump(1) + "\n";
}

std::optional<CostTable> readTable(const std::string& text, std::string& problem) {
    json content = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!content.is_object() || !content.contains("sha256")) {
        problem = "it is no cost table";
        return std::nullopt;
    }
    const json digest = content["sha256"];
    content.erase("sha256");
    if (content.value("version", json()) != kVersion) {
        problem = "it is of another version of this program";
        return std::nullopt;
    }
    if (digest != digestOf(content)) {
        problem = "its checksum does not match";
        return std::nullopt;
    }
    CostTable table;
    try {
        table.whole = content.at("whole");
        table.saved = rowsOf(content.at("saved"));
        table.savedByRanks = rowsOf(content.at("saved_by_ranks"));
        table.savedByBlock = content.at("saved_by_block").get<std::map<std::string, double>>();
        table.assignments = content.at("assignments").get<std::map<std::string, double>>();
    } catch (const json::exception&) {
        problem = "its entries are not what they should be";
        return std::nullopt;
    }
    return table;
}

}  // namespace tcompress::passes
