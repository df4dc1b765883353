#include "lib/ir/save.h"

#include <fmt/core.h>
#include <onnx/defs/printer.h>

#include <algorithm>
#include <climits>
#include <optional>
#include <vector>

#include "lib/ir/checker.h"
#include "lib/ir/export.h"
#include "lib/support/atomic_file.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"

namespace tcompress::ir {
namespace {

/// Protobuf's limit is 2 GiB; some room is left for readers that add to the model.
constexpr std::uint64_t largestSingleFile = std::uint64_t{1900} << 20;
/// A page, so that a reader can map each tensor by itself.
constexpr std::uint64_t externalAlignment = 4096;

std::uint64_t totalBytes(const Export& exported) {
    std::uint64_t total = exported.proto.ByteSizeLong();
    for (const auto& [place, payload] : exported.payloads.initializers) total += payload.bytes.size();
    for (const auto& [place, payload] : exported.payloads.attributes) total += payload.bytes.size();
    return total;
}

/// In pieces, so that no more than one of them counts in the process' memory when the bytes come from a
/// mapped file.
void writePayload(AtomicFile& file, wire::Bytes bytes) {
    constexpr std::size_t pieceBytes = std::size_t{1} << 20;
    thread_local std::vector<std::byte> buffer;
    buffer.resize(std::max(buffer.size(), std::min(pieceBytes, bytes.size())));
    while (!bytes.empty()) {
        wire::Bytes piece = bytes.first(std::min(pieceBytes, bytes.size()));
        file.write(readIfMapped(piece, buffer.data()) ? wire::Bytes(buffer).first(piece.size()) : piece);
        bytes = bytes.subspan(piece.size());
    }
}

void addEntry(onnx::TensorProto& tensor, const char* key, std::string value) {
    onnx::StringStringEntryProto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(std::move(value));
}

/// Moves the payloads of initializers that lie as they do in memory into the data file.
void writeExternalData(Export& exported, AtomicFile& file, const std::string& location) {
    auto& payloads = exported.payloads.initializers;
    for (auto place = payloads.begin(); place != payloads.end();) {
        const auto& [index, payload] = *place;
        bool isVarint = payload.field != tensor_field::rawData && payload.field != tensor_field::floatData &&
                        payload.field != tensor_field::doubleData;
        if (isVarint) {
            ++place;
            continue;
        }
        static constexpr std::byte zeros[externalAlignment]{};
        file.write(std::span(zeros).first((externalAlignment - file.position() % externalAlignment) %
                                          externalAlignment));
        onnx::TensorProto& tensor = *exported.proto.mutable_graph()->mutable_initializer(index);
        tensor.set_data_location(onnx::TensorProto::EXTERNAL);
        addEntry(tensor, "location", location);
        addEntry(tensor, "offset", std::to_string(file.position()));
        addEntry(tensor, "length", std::to_string(payload.bytes.size()));
        writePayload(file, payload.bytes);
        place = payloads.erase(place);
    }
}

void writeModelFile(const Export& exported, AtomicFile& file) {
    std::vector<Piece> pieces = splicePayloads(exported.proto.SerializeAsString(), exported.payloads);
    for (const Piece& piece : pieces) {
        file.write(piece.made);
        writePayload(file, piece.payload);
    }
}

}  // namespace

SaveResult save(const Model& model, const std::filesystem::path& path, const SaveOptions& options) {
    Export exported = exportModel(model);
    SaveResult result;
    bool external = options.externalData == ExternalData::always || totalBytes(exported) > largestSingleFile;
    std::optional<AtomicFile> dataFile;
    std::filesystem::path dataPath = path;
    dataPath += ".data";
    if (external) {
        dataFile.emplace(dataPath);
        writeExternalData(exported, *dataFile, dataPath.filename().string());
        if (totalBytes(exported) > INT_MAX) {
            throw ModelError(
                fmt::format("cannot write {}: {} bytes remain beside the external data, and protobuf "
                            "allows 2 GiB",
                            path.string(), totalBytes(exported)));
        }
    }
    AtomicFile file(path);
    writeModelFile(exported, file);
    file.flush();
    if (options.check) checkWrittenFile(file.temporaryPath(), path);

    if (dataFile && dataFile->position() > 0) {
        result.fileBytes += dataFile->position();
        result.files.push_back(dataPath);
        dataFile->commit();
    }
    result.fileBytes += file.position();
    result.files.insert(result.files.begin(), path);
    file.commit();
    return result;
}

std::string toText(const Model& model) {
    return onnx::ProtoToString(modelToProto(model, WeightData::skeleton));
}

}  // namespace tcompress::ir
