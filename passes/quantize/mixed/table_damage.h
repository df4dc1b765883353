#pragma once
// What a division of a table's rows by use does to the model's outputs, per unit of its expected error.
//
// Samples whose look-ups were counted say too little: the rows they hold get the many bits, and errors lie in
// rows they do not hold. Nor does rounding all rows alike tell: rare tokens matter more to what a model puts out
// than their share of the look-ups, separators and full stops less. So samples are divided into folds
// (cross-validation); rows are divided by their use in the other folds and receive noise as large as their
// formats' errors, and the outputs of the fold are looked at.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/table/tiered_quantizer.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {

class TableDamage {
  public:
    /// `model` and `context` must outlive it. `samples`: those whose look-ups are counted.
    TableDamage(const ir::Model& model, const pipeline::PassContext& context, const std::string& pass,
                const data::Dataset& samples);

    /// Damage (output_judge.h) by expected error (TablePlan) of rows that are divided among at most `mostTables`
    /// formats within `bytes`. Nothing when samples are too few, when no division fits, or when nothing is lost.
    std::optional<double> factor(const TargetWeight& weight, const TieredQuantizer& table, double bytes,
                                 std::int64_t mostTables);

  private:
    double damage(const TargetWeight& weight, const std::vector<double>& errors,
                  const std::vector<double>& counts, const OutputJudge& judge);

    const ir::Model& model_;
    const pipeline::PassContext& context_;
    std::string pass_;
    ir::Model edited_;                ///< the model with at most one table changed
    std::vector<data::Dataset> folds_;
    std::deque<OutputJudge> judges_;  ///< by the folds' samples
};

}  // namespace tcompress::passes
