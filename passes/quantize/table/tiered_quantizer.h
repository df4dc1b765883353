#pragma once
// An embedding table within a budget: rows whose error costs most get many bits, the long tail few.
//
// What a row's error costs is its use times its energy; formats are integers of 8 to 2 bits with a scale a row
// (quantized_table.h) and codebooks (codebook_storage.h); their errors are measured on rows of the table, and
// rows are divided so that the expected error is smallest within the budget (row_allocation.h). One table of
// formats serves any number of budgets, so that plans can be compared before any row is encoded.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/ir/edit.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/codebook/codebook.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "passes/quantize/table/row_allocation.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// How rows can be stored: integers (dimension 0) or codebook numbers.
struct TableFormat {
    int bits = 0;
    std::int64_t dimension = 0;
    std::int64_t size = 0;

    std::string describe() const;
};

/// Rows of smaller tables (positions, types of tokens) are better stored alike: the calibration data may be shorter
/// than what is run later, and little would be saved.
inline constexpr std::int64_t kFewestRowsToDivide = 4096;

/// All formats that there are.
std::span<const TableFormat> tableFormats();

/// Who gets which format. Sizes follow from it, whatever the values are.
struct TablePlan {
    std::vector<RowTier> tiers;  ///< of the sorted rows; formats by their number in TieredQuantizer::formats
    double bytes = 0;            ///< codes, scales, codebooks and the index map
    double error = 0;            ///< expected ‖lost‖² / ‖all‖², rows weighted by their use
};

/// A table as it is to be written.
struct EncodedTable {
    struct Part {
        std::int64_t rows = 0;
        std::optional<QuantizedWeights> integers;  ///< or else:
        Codebook codebook;
        std::vector<std::uint16_t> numbers;
    };
    std::vector<std::int64_t> order;  ///< row number at each place
    std::vector<Part> parts;
    std::string description;  ///< "2000 rows in 6 bits, 28522 rows in 4 bits"
    double error = 0;         ///< ‖lost‖ / ‖all‖, rows weighted by their use

    /// The rows as they are decoded, in the table's order.
    std::vector<float> decoded(std::int64_t length) const;
};

class TieredQuantizer {
  public:
    /// `weight`: a float32 matrix [rows, length], all finite, read by look-ups only. `usage`: of each row
    /// (row_usage.h). `formats`: those to choose from; what does not fit the table is left out.
    TieredQuantizer(const pipeline::PassContext& context, const TargetWeight& weight,
                    std::vector<double> usage, std::span<const TableFormat> formats);

    /// The same rows and formats, used otherwise.
    TieredQuantizer usedBy(std::vector<double> usage) const;

    /// Nothing when no division into at most `mostTables` formats fits `bytes`.
    std::optional<TablePlan> plan(double bytes, std::int64_t mostTables) const;
    /// ‖lost‖² / ‖all‖² that is expected of each row, in the table's order.
    std::vector<double> rowErrors(const TablePlan& plan) const;
    EncodedTable encode(const TablePlan& plan) const;
    /// As large as encode(plan) in every part, with arbitrary values.
    EncodedTable placeholder(const TablePlan& plan) const;

  private:
    struct Places {
        std::vector<std::int64_t> order;
        std::string description;
    };
    void sortRows();
    Places places(const TablePlan& plan) const;
    RowFormat measured(const TableFormat& format) const;
    std::vector<float> pickedRows(std::span<const std::int64_t> rows) const;
    EncodedTable::Part encode(const TableFormat& format, std::span<const std::int64_t> rows,
                              double& lost) const;

    const pipeline::PassContext& context_;
    std::string name_;
    std::span<const float> table_;
    std::int64_t rows_, length_;
    std::vector<double> usage_, energies_;
    std::vector<std::int64_t> order_;  ///< row numbers, most costly first
    std::vector<double> costs_;        ///< in that order
    double all_ = 0;
    std::vector<TableFormat> formats_;
    std::vector<RowFormat> measured_;
};

/// Why rows of the weight cannot be divided so; empty when they can.
std::string tieredRefusal(const TargetWeight& weight);

/// Replaces the table at every site and reports the sites.
void storeTable(ir::Edit& edit, const TargetWeight& weight, const EncodedTable& table,
                pipeline::PassReport& report);

}  // namespace tcompress::passes
