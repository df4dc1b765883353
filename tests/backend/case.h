#pragma once
// One operator case: a folder with model.onnx and test_data_set_*/{input,output}_*.pb, laid out as the onnx package ships its
// node tests.

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "lib/exec/operator.h"
#include "lib/ir/model.h"

namespace tcompress::test {

struct OperatorCase {
    std::string suite;  ///< the folder's folder, such as "onnx-1.16.2"
    std::string name;
    std::filesystem::path folder;

    std::string label() const { return suite + "/" + name; }
};

/// All cases below the folder that TCOMPRESS_ONNX_CASES names (scripts/fetch_cases.sh makes it), in a fixed order. Empty, with
/// a Catch warning that no case was run, when it names none.
std::vector<OperatorCase> operatorCases();

onnx::ModelProto modelOf(const OperatorCase& c);
/// Of the case's first data set, by name. False when the case has none, or of a kind the executor does not know.
bool readInputs(const OperatorCase& c, const ir::Model& model, std::map<std::string, exec::Datum>& feeds);

/// What a model is made of, sub-graphs included.
struct Contents {
    std::set<std::string> operators;               ///< "Add", "com.microsoft:Gelu"
    std::set<const exec::OperatorRow*> rows;       ///< of the executor's tables; functions are not followed
    bool strings = false;                          ///< an input, output or constant holds strings
};
Contents contentsOf(const onnx::ModelProto& model);

/// Why the case fails, as it stands or with fusion; empty when it passes.
std::string failureOf(const OperatorCase& c);

}  // namespace tcompress::test
