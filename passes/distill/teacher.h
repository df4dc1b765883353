#pragma once
// What a model should give, by another one: losses between values of the same names.

#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/exec/executor.h"
#include "lib/train/trainer.h"

namespace tcompress::passes {

struct TeacherOptions {
    train::Distance distance = train::Distance::squared;
    double temperature = 1;
    double hidden = 0;  ///< what the blocks' outputs count together, where all outputs of the model together count 1
};

class Teacher {
  public:
    /// Outputs and, where they count, blocks' outputs that both models have. `feeds` tells their shapes. Throws PassError
    /// when no floating-point output of the same shape is in both.
    Teacher(const ir::Model& teacher, const ir::Model& student, const analysis::TransformerView& view, const TeacherOptions& options,
            const exec::Feeds& feeds);

    /// Of the student, the model's outputs first.
    const std::vector<train::LossTerm>& terms() const { return terms_; }
    std::size_t outputCount() const { return outputCount_; }
    /// Of a batch. Rows that are padding do not count, nor do rows in which the teacher is not finite. Squared terms are
    /// relative to ‖t‖² of the batch, divergences to its rows.
    train::Targets targets(const exec::Feeds& feeds);

  private:
    const ir::Model& teacher_;
    std::vector<train::LossTerm> terms_;
    std::vector<double> weights_;
    std::size_t outputCount_ = 0;
    std::unique_ptr<exec::Executor> executor_;
};

}  // namespace tcompress::passes
