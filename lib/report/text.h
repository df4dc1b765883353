#pragma once
// Numbers and tables as people read them.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "lib/measure/evaluate.h"

namespace tcompress::report {

/// "69.06 MB", "812 kB", "17 B": decimal units, as file managers and download pages count.
std::string bytesText(std::uint64_t bytes);
/// "17.24 M", "1.42 G", "960".
std::string countText(std::int64_t count);
/// "12.3 ms", "850 us", "1.25 s".
std::string secondsText(double seconds);
/// "1.25 mJ".
std::string joulesText(double joules);
/// "25.3 %"; "-" when the whole is 0.
std::string shareText(double part, double whole);
/// Four significant digits; "not finite" for NaN and infinity.
std::string numberText(double value);
/// "0.8800 [0.8517, 0.9035]".
std::string estimateText(const measure::Estimate& estimate);
/// The same with a sign, for differences.
std::string differenceText(const measure::Estimate& estimate);

enum class Align { left, right };

/// A GitHub-flavoured Markdown table. Text is escaped so that a '|' or a line break in a name breaks no row.
class Table {
  public:
    struct Column {
        std::string title;
        Align align = Align::right;
    };
    Table(std::initializer_list<Column> columns) : columns_(columns) {}
    void row(std::vector<std::string> cells);
    bool empty() const { return rows_.empty(); }
    std::string text() const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

/// Text in a code span, whatever it holds.
std::string code(std::string_view text);

}  // namespace tcompress::report
