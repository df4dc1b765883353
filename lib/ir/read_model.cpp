#include "lib/ir/read_model.h"

#include <fmt/core.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <climits>

#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

/// False when protobuf finds it damaged.
bool parse(const std::string& bytes, onnx::ModelProto& proto) {
    if (bytes.size() > INT_MAX) throw ModelError("more than 2 GiB remain without the weights");
    google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
    google::protobuf::io::CodedInputStream coded(&stream);
    coded.SetTotalBytesLimit(INT_MAX);
    return proto.ParseFromCodedStream(&coded) && coded.ConsumedEntireMessage();
}

}  // namespace

ModelSource readModel(const std::shared_ptr<const MappedFile>& file) {
    if (file->bytes().empty()) throw ModelError("the file is empty");
    try {
        Skeleton skeleton = cutPayloads(file->bytes());
        ModelSource source;
        if (!parse(skeleton.bytes, source.proto)) {
            throw wire::Malformed("protobuf cannot parse it (damaged, or nested too deeply)");
        }
        source.payloads = std::move(skeleton.payloads);
        source.owner = file;
        source.folder = file->path().parent_path();
        source.path = file->path();
        return source;
    } catch (const wire::Malformed& problem) {
        throw ModelError(fmt::format("not an ONNX model, or cut short: {}", problem.what()));
    }
}

}  // namespace tcompress::ir
