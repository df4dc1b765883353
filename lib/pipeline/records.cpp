#include "lib/pipeline/records.h"

#include <set>

#include "lib/ir/export.h"
#include "lib/ir/read_model.h"
#include "lib/support/mapped_file.h"
#include "lib/support/sha256.h"

namespace tcompress::pipeline {

namespace fs = std::filesystem;

report::FileRecord fileRecord(const fs::path& path) {
    report::FileRecord record;
    record.path = path.string();
    if (fs::is_directory(path)) {
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path))
            if (entry.is_regular_file()) record.fileBytes += entry.file_size();
        return record;
    }
    record.fileBytes = fs::file_size(path);
    record.sha256 = sha256OfFile(path);
    return record;
}

std::vector<fs::path> externalFiles(const fs::path& modelFile) {
    const ir::ModelSource source = ir::readModel(MappedFile::open(modelFile));
    std::set<fs::path> files;
    const auto collect = [&](const onnx::TensorProto& tensor) {
        if (tensor.data_location() != onnx::TensorProto::EXTERNAL) return;
        for (const onnx::StringStringEntryProto& entry : tensor.external_data())
            if (entry.key() == "location")
                files.insert((modelFile.parent_path() / entry.value()).lexically_normal());
    };
    for (const onnx::TensorProto& tensor : source.proto.graph().initializer()) collect(tensor);
    for (const onnx::NodeProto& node : source.proto.graph().node())
        for (const onnx::AttributeProto& attribute : node.attribute()) collect(attribute.t());
    return {files.begin(), files.end()};
}

std::uint64_t filesBytes(const fs::path& modelFile) {
    std::uint64_t bytes = fs::file_size(modelFile);
    for (const fs::path& file : externalFiles(modelFile)) bytes += fs::file_size(file);
    return bytes;
}

report::ModelRecord modelRecord(const ir::Model& model, ViewCache& views) {
    report::ModelRecord record;
    record.constantBytes = model.constantBytes();
    record.nodes = static_cast<std::int64_t>(model.graph().nodes().size());
    record.opset = model.opset();
    record.cost = analysis::cost(model, views.view(model));
    return record;
}

void addFiles(report::ModelRecord& record, const fs::path& modelFile) {
    record.file = fileRecord(modelFile);
    for (const fs::path& file : externalFiles(modelFile)) {
        record.externalData.push_back(fileRecord(file));
        record.file.fileBytes += record.externalData.back().fileBytes;
    }
}

std::uint64_t predictedFileBytes(const ir::Model& model) {
    const ir::Export exported = ir::exportModel(model);
    std::uint64_t bytes = 0;
    for (const ir::Piece& piece : ir::splicePayloads(exported.proto.SerializeAsString(), exported.payloads))
        bytes += piece.made.size() + piece.payload.size();
    return bytes;
}

}  // namespace tcompress::pipeline
