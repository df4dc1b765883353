#include "lib/ir/load.h"

#include <fmt/core.h>
#include <onnx/defs/parser.h>

#include "lib/ir/read_model.h"
#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

/// Names from the file stand in messages, and may hold anything; a message has one line.
std::string printable(std::string text) {
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text;
}

}  // namespace

Model load(const std::filesystem::path& path) {
    std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    std::optional<Model> model;
    try {
        model = buildModel(readModel(file));
    } catch (const ModelError& problem) {
        throw ModelError(fmt::format("cannot load {}: {}", path.string(), printable(problem.what())));
    }
    inferTypes(*model);
    // What is needed of the weights is read again, piece by piece, by who needs it.
    file->release(file->bytes());
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
