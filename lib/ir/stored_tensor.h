#pragma once
// A constant as a file stores it, kept so that an untouched one is written exactly as it came, and its
// decoding into a Tensor: raw_data, the typed fields (float_data …), packed or not, external data, sparse.

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/ir/payloads.h"
#include "lib/support/mapped_file.h"
#include "lib/tensor/tensor.h"

namespace tcompress::ir {

struct StoredTensor {
    onnx::TensorProto proto;                        ///< without its payload when that was cut
    std::optional<onnx::SparseTensorProto> sparse;  ///< instead of proto
    int payloadField = 0;                           ///< 0: no payload was cut
    std::shared_ptr<const std::byte> payload;
    std::size_t payloadBytes = 0;

    const std::string& name() const { return sparse ? sparse->values().name() : proto.name(); }
    bool isExternal() const {
        return proto.has_data_location() && proto.data_location() == onnx::TensorProto::EXTERNAL;
    }
    wire::Bytes payloadSpan() const { return {payload.get(), payloadBytes}; }
};

/// The external data files of one model: only inside its folder, each mapped once.
class ExternalFiles {
  public:
    explicit ExternalFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}
    /// Throws ModelError for a path that leaves the folder.
    std::shared_ptr<const MappedFile> open(const std::string& location);

  private:
    std::filesystem::path folder_;
    std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

/// The data of a stored tensor, sharing its bytes where the file has them in the order of memory. nullopt for
/// what is kept but not understood: strings, element types this program does not know, segments, a sparse
/// tensor whose dense form is too large to make. Throws ModelError (without the file's name) when sizes do
/// not fit.
std::optional<Tensor> decode(const std::shared_ptr<const StoredTensor>& stored, ExternalFiles& files);

/// Puts a payload into its field of the TensorProto. Throws ModelError when it is damaged.
void restorePayload(onnx::TensorProto& tensor, const Payload& payload);

/// How new data are stored: as raw_data, sharing the tensor's bytes when they are large.
std::shared_ptr<StoredTensor> store(const Tensor& tensor, const std::string& name);

}  // namespace tcompress::ir
