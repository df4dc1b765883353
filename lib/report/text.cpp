#include "lib/report/text.h"

#include <fmt/core.h>

#include <array>
#include <cmath>

#include "lib/support/check.h"

namespace tcompress::report {
namespace {

/// Three or four digits that tell something: 1.234, 12.34, 123.4, 1234.
std::string digits(double value) {
    const double size = std::abs(value);
    return fmt::format("{:.{}f}", value, size >= 999.95 ? 0 : size >= 99.995 ? 1 : 2);
}

std::string scaled(double value, std::initializer_list<std::pair<double, const char*>> units) {
    for (const auto& [unit, name] : units)
        if (std::abs(value) >= unit) return digits(value / unit) + name;
    const auto& [unit, name] = *(units.end() - 1);
    return digits(value / unit) + name;
}

std::string escaped(std::string_view text) {
    std::string result;
    for (const char c : text) {
        if (c == '|') result += '\\';
        result += c == '\n' || c == '\r' ? ' ' : c;
    }
    return result;
}

}  // namespace

std::string bytesText(std::uint64_t bytes) {
    if (bytes < 1000) return fmt::format("{} B", bytes);
    return scaled(static_cast<double>(bytes), {{1e9, " GB"}, {1e6, " MB"}, {1e3, " kB"}});
}

std::string countText(std::int64_t count) {
    if (std::abs(count) < 10'000) return std::to_string(count);
    return scaled(static_cast<double>(count), {{1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}});
}

std::string secondsText(double seconds) { return scaled(seconds, {{1, " s"}, {1e-3, " ms"}, {1e-6, " us"}}); }

std::string joulesText(double joules) {
    return scaled(joules, {{1, " J"}, {1e-3, " mJ"}, {1e-6, " uJ"}, {1e-9, " nJ"}});
}

std::string shareText(double part, double whole) {
    return whole == 0 ? "-" : fmt::format("{:.1f} %", 100 * part / whole);
}

std::string numberText(double value) {
    if (!std::isfinite(value)) return "not finite";
    return std::abs(value) >= 1000 ? fmt::format("{:.5g}", value) : fmt::format("{:.4g}", value);
}

namespace {

std::string fixedText(double value, std::string_view sign) {
    if (!std::isfinite(value)) return "not finite";
    return sign.empty() ? fmt::format("{:.4f}", value) : fmt::format("{:+.4f}", value);
}

std::string withInterval(const measure::Estimate& e, std::string_view sign) {
    return fmt::format("{} [{}, {}]", fixedText(e.value, sign), fixedText(e.low, sign),
                       fixedText(e.high, sign));
}

}  // namespace

std::string estimateText(const measure::Estimate& estimate) { return withInterval(estimate, ""); }
std::string differenceText(const measure::Estimate& estimate) { return withInterval(estimate, "+"); }

void Table::row(std::vector<std::string> cells) {
    TCOMPRESS_CHECK(cells.size() == columns_.size(), "one cell a column");
    rows_.push_back(std::move(cells));
}

std::string Table::text() const {
    std::string text = "|";
    for (const Column& column : columns_) text += fmt::format(" {} |", column.title);
    text += "\n|";
    for (const Column& column : columns_) text += column.align == Align::left ? "---|" : "---:|";
    text += '\n';
    for (const auto& row : rows_) {
        text += "|";
        for (const std::string& cell : row) text += fmt::format(" {} |", escaped(cell));
        text += '\n';
    }
    return text + '\n';
}

std::string code(std::string_view text) {
    // A fence one longer than any run of back-ticks inside (CommonMark 6.1).
    std::size_t longest = 0, run = 0;
    for (const char c : text) {
        run = c == '`' ? run + 1 : 0;
        longest = std::max(longest, run);
    }
    if (longest == 0) return fmt::format("`{}`", text);
    const std::string fence(longest + 1, '`');
    return fmt::format("{} {} {}", fence, text, fence);
}

}  // namespace tcompress::report
