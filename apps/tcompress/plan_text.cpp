#include "apps/tcompress/plan_text.h"

#include <fmt/core.h>

#include "apps/tcompress/tables.h"
#include "lib/report/text.h"

namespace tcompress::cli {

namespace {

std::string passName(const report::PassRow& row) {
    return row.method.empty() ? row.type : row.type + "/" + row.method;
}

std::string passTable(const report::Report& plan) {
    std::vector<std::vector<std::string>> rows = {
        {"pass", "changed", "skipped", "weights", "parameters", "MACs", "s"}};
    for (const report::PassRow& row : plan.passes)
        rows.push_back({passName(row), std::to_string(row.changed.size()), std::to_string(row.skipped.size()),
                        report::bytesText(static_cast<std::uint64_t>(row.after->bytes)),
                        shortCount(row.after->parameters), shortCount(row.after->macs),
                        fmt::format("{:.2f}", row.seconds)});
    return renderTable(rows, {Align::left, Align::right, Align::right, Align::right, Align::right,
                              Align::right, Align::right});
}

std::string siteTable(const report::PassRow& row) {
    std::vector<std::vector<std::string>> rows;
    for (const report::ChangedSite& site : row.changed) rows.push_back({"  " + site.site, site.change});
    for (const report::SkippedSite& site : row.skipped)
        rows.push_back({"  " + site.site, "skipped: " + site.reason});
    std::string text = renderTable(rows, {Align::left, Align::left});
    for (const std::string& note : row.notes) text += "  note: " + note + "\n";
    return text;
}

}  // namespace

std::string planText(const report::Report& plan) {
    std::string text;
    for (const report::PassRow& row : plan.passes) text += passName(row) + "\n" + siteTable(row) + "\n";
    if (!plan.passes.empty()) text += passTable(plan) + "\n";
    const std::uint64_t before = plan.original->file.fileBytes;
    const std::uint64_t after = plan.compressed->file.fileBytes;
    text +=
        fmt::format("file      {} -> {} ({:.1f} %)\n", report::bytesText(before), report::bytesText(after),
                    100.0 * static_cast<double>(after) / static_cast<double>(before));
    if (plan.original->cost && plan.compressed->cost)
        text += fmt::format("MACs      {} -> {} for {}\n", shortCount(plan.original->cost->macs),
                            shortCount(plan.compressed->cost->macs), sampleText(*plan.original->cost));
    text += fmt::format("memory    about {} at most in a real run without evaluation\n",
                        report::bytesText(plan.peakMemoryBytes));
    return text + "nothing was written\n";
}

}  // namespace tcompress::cli
