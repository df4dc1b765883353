#include "apps/tcompress/tables.h"

#include <fmt/core.h>

#include <algorithm>

namespace tcompress::cli {

namespace {

/// Characters of a UTF-8 text: its bytes that do not continue one.
std::size_t width(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

std::string renderTable(const std::vector<std::vector<std::string>>& rows,
                        const std::vector<Align>& columns) {
    std::vector<std::size_t> widths(columns.size(), 0);
    for (const auto& row : rows)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    std::string text;
    for (const auto& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string padding(widths[i] - width(row[i]), ' ');
            if (i > 0) line += "  ";
            line += columns[i] == Align::left ? row[i] + padding : padding + row[i];
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + '\n';
    }
    return text;
}

std::string shortCount(std::int64_t count) {
    const auto value = static_cast<double>(count);
    if (value >= 1e9) return fmt::format("{:.2f} G", value / 1e9);
    if (value >= 1e6) return fmt::format("{:.2f} M", value / 1e6);
    if (value >= 1e4) return fmt::format("{:.1f} k", value / 1e3);
    return std::to_string(count);
}

std::string sampleText(const analysis::ModelCost& cost) {
    return cost.sequenceLength > 0 ? fmt::format("one sample of {} tokens", cost.sequenceLength) : "one sample";
}

}  // namespace tcompress::cli
