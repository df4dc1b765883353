#include "lib/ir/checker.h"

#include <fmt/core.h>
#include <onnx/checker.h>

#include <algorithm>

#include "lib/ir/export.h"
#include "lib/ir/read_model.h"
#include "lib/ir/runtime_operators.h"
#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

/// The checker's reports have several lines; an error of ours has one.
std::string oneLine(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
}

void hideLocations(onnx::ModelProto& proto) {
    for (onnx::TensorProto& tensor : *proto.mutable_graph()->mutable_initializer()) {
        for (onnx::StringStringEntryProto& entry : *tensor.mutable_external_data()) {
            if (entry.key() == "location") entry.set_value(std::string(noFile));
        }
    }
}

}  // namespace

void checkWrittenFile(const std::filesystem::path& file, const std::filesystem::path& target) {
    ModelSource source = readModel(MappedFile::open(file));
    Export skeleton{std::move(source.proto), std::move(source.payloads)};
    hideLocations(skeleton.proto);
    moveRuntimeOperators(skeleton.proto);
    markPayloadsExternal(skeleton);
    try {
        onnx::checker::check_model(skeleton.proto);
    } catch (const std::exception& problem) {
        throw ModelError(
            fmt::format("ONNX's checker refuses {}: {}", target.string(), oneLine(problem.what())));
    }
}

}  // namespace tcompress::ir
