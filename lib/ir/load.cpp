#include "lib/ir/load.h"

#include <fmt/core.h>
#include <onnx/defs/parser.h>

#include "lib/ir/read_file.h"
#include "lib/support/error.h"

namespace tcompress::ir {
Model load(const std::filesystem::path& path) {
    std::optional<Model> model;
    try {
        model = buildModel(readFile(path));
    } catch (const ModelError& problem) {
        std::string text = problem.what();
        // A file that cannot be opened is named already.
        if (text.starts_with("cannot read ")) throw;
        throw ModelError(fmt::format("cannot load {}: {}", path.string(), text));
    }
    inferTypes(*model);
    return std::move(*model);
}

Model fromProto(onnx::ModelProto proto, const std::filesystem::path& folder) {
    ModelSource source;
    source.proto = std::move(proto);
    source.folder = folder;
    Model model = buildModel(std::move(source));
    inferTypes(model);
    return model;
}

Model fromText(std::string_view text) {
    onnx::ModelProto proto;
    std::string copy(text);
    onnx::OnnxParser parser(copy.c_str());
    onnx::Common::Status status = parser.Parse(proto);
    if (!status.IsOK())
        throw ModelError(fmt::format("cannot parse the model's text: {}", status.ErrorMessage()));
    return fromProto(std::move(proto));
}

}  // namespace tcompress::ir
