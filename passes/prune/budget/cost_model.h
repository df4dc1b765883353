#pragma once
// The target of a budget, what it is counted in, and the table that says so: measured on this machine for time, kept in
// the cache folder or in a file, else computed.

#include <filesystem>
#include <optional>
#include <string>

#include "lib/pipeline/pass.h"
#include "passes/prune/budget/cost_table.h"
#include "passes/prune/budget/latency_meter.h"

namespace tcompress::passes {

enum class BudgetKind { speedup, macs, parameters, energy };

struct BudgetTarget {
    BudgetKind kind = BudgetKind::speedup;
    double value = 1;  ///< times as fast, or the share that may stay

    double budget(double whole) const { return kind == BudgetKind::speedup ? whole / value : whole * value; }
    /// "a speed-up of 2", "0.5 of the multiply-accumulates".
    std::string describe() const;
    /// The same of a model that costs `cost`: "1.86 times as fast", "0.54 of the multiply-accumulates".
    std::string describe(double cost, double whole) const;
};

struct LatencyOptions {
    std::int64_t threads = 1;
    std::string table;  ///< file to read, or to write when there is none; empty: none
};

class CostModel {
  public:
    /// Measures or reads the table. The model must outlive it. Throws DataError when the file of a table is no table of
    /// this model.
    CostModel(const ir::Model& model, const Anatomy& anatomy, const BudgetTarget& target, exec::Feeds sample,
              const LatencyOptions& latency, const pipeline::PassContext& context);

    const CostTable& table() const { return table_; }
    /// Of a whole assignment: measured where it may be, else the sum of the parts.
    double cost(const Assignment& assignment);
    /// Writes what was measured to where it is kept.
    void keep() const;
    /// Where the table came from.
    const std::string& origin() const { return origin_; }

  private:
    /// What is kept in file_. A broken table in the cache is measured anew; one that was named is an error.
    std::optional<CostTable> load() const;

    const ir::Model& model_;
    const Anatomy& anatomy_;
    CostMeter meter_;
    CostTable table_;
    std::filesystem::path file_;  ///< where it is kept; empty: nowhere
    bool isNamed_ = false;        ///< the user named the file: once it is there nothing is measured
    std::string origin_;
};

}  // namespace tcompress::passes
