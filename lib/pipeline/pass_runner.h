#pragma once
// Runs the passes of a config one after the other and does the chores around each: a copy to fall back on,
// time, progress, validation, the check that something was changed, dumps, the report's row, and the
// reproducer when it fails.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "lib/data/calibration_data.h"
#include "lib/pipeline/config.h"
#include "lib/report/report.h"

namespace tcompress::pipeline {

/// Whether rows say bytes, parameters and MACs before and after each pass: counting them looks at every
/// weight.
enum class RowTotals { skip, count };

struct PassRunnerOptions {
    RowTotals totals = RowTotals::skip;
    std::filesystem::path dumpFolder;  ///< the model after each pass is written here; empty = not at all
    std::filesystem::path reproducerFolder;  ///< where a failing pass leaves its reproducer; empty = nowhere
    std::string commandLine;                 ///< for the reproducer
    const ir::Model* original = nullptr;     ///< what passes may compare with (PassContext::original)
};

class PassRunner {
  public:
    PassRunner(const Config& config, const data::CalibrationData* calibration, PassRunnerOptions options,
               Progress& progress);

    /// Runs step `index` on the model, which is unchanged when this throws. What a pass throws comes out with
    /// the pass's name and number in front.
    report::PassRow run(ir::Model& model, std::size_t index);

    const std::shared_ptr<ViewCache>& views() const { return views_; }

  private:
    PassReport runChecked(ir::Model& model, std::size_t index) const;
    void dump(const ir::Model& model, std::size_t index) const;
    std::optional<report::Totals> totals(const ir::Model& model) const;

    const Config& config_;
    const data::CalibrationData* calibration_;
    PassRunnerOptions options_;
    Progress& progress_;
    std::optional<ir::Model> reference_;  ///< in the original's place since a pass has moved values
    std::shared_ptr<ViewCache> views_ = std::make_shared<ViewCache>();
};

}  // namespace tcompress::pipeline
