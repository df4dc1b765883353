#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "lib/report/sections.h"
#include "lib/report/text.h"

namespace tcompress::report {
namespace {

/// "before | after | share" cells; `after` is left out when there is one model.
std::vector<std::string> pair(const std::string& title, std::int64_t before, const std::int64_t* after,
                              std::string (*text)(std::int64_t)) {
    if (after == nullptr) return {title, text(before)};
    return {title, text(before), text(*after),
            shareText(static_cast<double>(*after), static_cast<double>(before))};
}

std::string bytes(std::int64_t count) { return bytesText(static_cast<std::uint64_t>(count)); }

Table table(const char* title, bool both) {
    if (both) return {{title, Align::left}, {"original"}, {"compressed"}, {"share"}};
    return {{title, Align::left}, {"model"}};
}

/// Roles in the order of a forward pass, unknown ones last.
std::vector<std::string> roles(const analysis::ModelCost& before, const analysis::ModelCost* after) {
    std::set<std::string> names;
    for (const auto& [name, cost] : before.byRole) names.insert(name);
    if (after != nullptr)
        for (const auto& [name, cost] : after->byRole) names.insert(name);
    std::vector<std::string> order;
    for (const char* name : {"embedding", "attention", "ffn", "norm", "classifier", "other"})
        if (names.erase(name) > 0) order.emplace_back(name);
    order.insert(order.end(), names.begin(), names.end());
    return order;
}

analysis::RoleCost roleCost(const analysis::ModelCost& cost, const std::string& role) {
    const auto found = cost.byRole.find(role);
    return found == cost.byRole.end() ? analysis::RoleCost{} : found->second;
}

std::string nonZeroText(std::int64_t nonZero, std::int64_t parameters) {
    return shareText(static_cast<double>(nonZero), static_cast<double>(parameters));
}

std::string byRole(const analysis::ModelCost& before, const analysis::ModelCost* after) {
    const bool both = after != nullptr;
    Table table = both ? Table{{"role", Align::left}, {"bytes"}, {"to"},   {"share"}, {"parameters"}, {"to"},
                               {"non-zero"},          {"to"},    {"MACs"}, {"to"}}
                       : Table{{"role", Align::left}, {"bytes"}, {"parameters"}, {"non-zero"}, {"MACs"}};
    for (const std::string& role : roles(before, after)) {
        const analysis::RoleCost a = roleCost(before, role);
        if (!both) {
            table.row({role, bytes(a.bytes), countText(a.parameters), nonZeroText(a.nonZero, a.parameters),
                       countText(a.macs)});
            continue;
        }
        const analysis::RoleCost b = roleCost(*after, role);
        table.row({role, bytes(a.bytes), bytes(b.bytes),
                   shareText(static_cast<double>(b.bytes), static_cast<double>(a.bytes)),
                   countText(a.parameters), countText(b.parameters), nonZeroText(a.nonZero, a.parameters),
                   nonZeroText(b.nonZero, b.parameters), countText(a.macs), countText(b.macs)});
    }
    return table.text();
}

std::string macsByType(const analysis::ModelCost& cost) {
    std::string text;
    for (const auto& [type, macs] : cost.macsByType)
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", countText(macs), type);
    return text;
}

}  // namespace

std::string sizeSection(const Report& report) {
    if (!report.original) return {};
    const ModelRecord& before = *report.original;
    const ModelRecord* after = report.compressed ? &*report.compressed : nullptr;
    const bool both = after != nullptr;
    Table totals = table("size", both);
    const auto add = [&](const char* title, auto of, std::string (*text)(std::int64_t)) {
        const auto value = static_cast<std::int64_t>(of(before));
        const auto other = both ? static_cast<std::int64_t>(of(*after)) : 0;
        totals.row(pair(title, value, both ? &other : nullptr, text));
    };
    add(
        "file", [](const ModelRecord& m) { return m.file.fileBytes; }, bytes);
    add(
        "constant data in memory", [](const ModelRecord& m) { return m.constantBytes; }, bytes);
    add(
        "nodes", [](const ModelRecord& m) { return m.nodes; }, countText);
    const bool costs = before.cost && (!both || after->cost);
    if (costs) {
        add(
            "parameters", [](const ModelRecord& m) { return m.cost->parameters; }, countText);
        add(
            "non-zero parameters", [](const ModelRecord& m) { return m.cost->nonZero; }, countText);
        add(
            "MACs", [](const ModelRecord& m) { return m.cost->macs; }, countText);
    }
    std::string text = "## Size\n\n" + totals.text();
    if (!costs) return text;
    text += byRole(*before.cost, both ? &*after->cost : nullptr);
    const std::int64_t length = before.cost->sequenceLength;
    text += fmt::format("MACs are those of batch 1{}. By type: {}", length > 0 ? fmt::format(" and length {}", length) : "",
                        macsByType(*before.cost));
    if (both) text += fmt::format("; compressed: {}", macsByType(*after->cost));
    return text + ".\n\n";
}

}  // namespace tcompress::report
