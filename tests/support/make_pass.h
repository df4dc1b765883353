#pragma once
// A pass from its name and options, as a pipeline file would make it.

#include <memory>
#include <string>

#include "lib/data/dataset.h"
#include "lib/pipeline/pass.h"

namespace tcompress::test {

/// `options` is a JSON object, for example R"({"ratio": 0.5})". Fails the test when the options are refused.
std::unique_ptr<pipeline::Pass> makePass(const std::string& type, const std::string& method,
                                         const std::string& options);

/// Runs a pass on a copy of the model, as the pipeline does, and returns the copy. `original`: what passes before made the
/// model of.
struct PassResult {
    ir::Model model;
    pipeline::PassReport report;
};
PassResult runPass(const ir::Model& model, const std::string& type, const std::string& method,
                   const std::string& options, const data::Dataset* calibration = nullptr, const ir::Model* original = nullptr);

}  // namespace tcompress::test
