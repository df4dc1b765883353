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

constexpr int kVersion = 1;

/// Numbers of units that are looked at; between them costs are interpolated.
std::vector<std::int64_t> knots(const Part& part) {
    constexpr std::size_t kMost = 7;
    std::vector<std::int64_t> kept(part.keeps.begin() + 1, part.keeps.end());
    const bool drops = !kept.empty() && kept.back() == 0;
    if (drops) kept.pop_back();
    std::vector<std::int64_t> result;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        const std::size_t left = kept.size() - 1 - i, stride = (kept.size() + kMost - 1) / kMost;
        if (left % stride == 0) result.push_back(kept[i]);
    }
    if (drops) result.push_back(0);
    return result;
}

json tableJson(const CostTable& table, const std::string& origin) {
    json saved = json::object();
    for (const auto& [shape, rows] : table.saved)
        for (const auto& [keep, value] : rows) saved[shape].push_back({keep, value});
    return {{"version", kVersion},           {"origin", origin},
            {"whole", table.whole},          {"saved", std::move(saved)},
            {"saved_by_block", table.savedByBlock}, {"assignments", table.assignments}};
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

std::string assignmentKey(const Assignment& assignment) { return fmt::format("{}", fmt::join(assignment, " ")); }

double CostTable::savedBy(const Part& part, std::int64_t keep) const {
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
    for (const auto& [shape, parts] : alike) total += std::ssize(knots(anatomy.parts[parts.front()]));
    progress.begin("costs", total);
    std::map<std::string, std::map<std::int64_t, double>> costs;
    for (const auto& [shape, parts] : alike)
        for (const std::int64_t keep : knots(anatomy.parts[parts.front()])) {
            Assignment assignment = anatomy.whole();
            for (const std::size_t part : parts) assignment[part] = keep;
            costs[shape][keep] = meter(shaped(model, anatomy, assignment));
            progress.step();
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
        for (const auto& [shape, rows] : content.at("saved").items())
            for (const json& row : rows) table.saved[shape][row.at(0)] = row.at(1);
        table.savedByBlock = content.at("saved_by_block").get<std::map<std::string, double>>();
        table.assignments = content.at("assignments").get<std::map<std::string, double>>();
    } catch (const json::exception&) {
        problem = "its entries are not what they should be";
        return std::nullopt;
    }
    return table;
}

}  // namespace tcompress::passes
