#pragma once
// How far an edited model's outputs are from the original's, over samples whose original outputs are computed once.
// What lies before the edits runs once, too (calibration::Stream). Outputs that are many wait in a temporary file.

#include <string>
#include <vector>

#include "lib/calibration/stream.h"
#include "lib/calibration/tensor_store.h"
#include "lib/calibration/token_mask.h"
#include "lib/data/split.h"
#include "lib/pipeline/pass.h"

namespace tcompress::passes {

/// Samples that plans are made by: enough to rank. What is chosen is fitted to all.
data::Split samplesToPlanBy(const data::Split& samples);
/// Those that outputs are judged on: what is held back, where anything is.
const data::Dataset& allJudgesOf(const data::Split& samples);
/// So few of them that many trials are quick.
data::Dataset judgesOf(const data::Split& samples);

/// Names of the floating-point outputs that are computed. Throws PassError when there is none.
std::vector<std::string> floatOutputs(const ir::Model& model);

class OutputJudge {
  public:
    /// `outputs` are names of floating-point graph outputs; `samples` fit the model, which must outlive the judge.
    /// Throws DataError when no value of the outputs is finite on any sample.
    OutputJudge(const ir::Model& original, std::vector<std::string> outputs, const data::Dataset& samples,
                const pipeline::PassContext& context);

    /// From here on edited models give the original's values up to this one. Null, and values that are not computed,
    /// leave the judge where it is.
    void advanceTo(const ir::Value* value);

    /// ‖y − ŷ‖² / ‖y‖² over rows that are no padding, the mean over outputs that the edited model still has. What is not
    /// finite in the original (masked logits) is left out; infinite where the edited model's outputs are not finite.
    double error(const ir::Model& edited) const;

  private:
    struct Batch {
        calibration::TokenMask mask;
        std::vector<calibration::TensorStore::Slot> outputs;  ///< rows that are no padding
    };
    std::vector<std::string> names_;
    const pipeline::PassContext& context_;
    calibration::Stream stream_;
    calibration::TensorStore store_;
    std::vector<Batch> batches_;
};

}  // namespace tcompress::passes
