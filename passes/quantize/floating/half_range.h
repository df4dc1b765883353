#pragma once
// Which values of a model float16 cannot hold, by what they were on calibration data: those that pass its
// largest number, and those so small that its subnormal numbers lose them.
//
// Magnitudes from 1e8 on are masks (−1e9 or −3.4e38 for "never look there"): as single numbers they may become
// the largest float16.

#include <map>
#include <string>

#include "lib/ir/model.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/grid/quantized_weights.h"

namespace tcompress::passes {

class HalfRange {
  public:
    /// Without data nothing is known of computed values.
    HalfRange() = default;
    /// Runs the model; the types of its values must be known.
    HalfRange(const ir::Model& model, const pipeline::PassContext& context, const std::string& pass);

    /// "reaches 81234, and float16 ends at 65504"; empty when the value fits, or when nothing is known of it.
    const std::string& problem(const ir::Value* value) const;

  private:
    std::map<const ir::Value*, std::string> problems_;
};

/// The same for the values of a constant (float32), all of which are known.
std::string halfProblem(const Tensor& tensor);

}  // namespace tcompress::passes
