#pragma once
// From a parsed (skeleton) ModelProto to the overlay.

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <memory>
#include <string>

#include "lib/ir/model.h"
#include "lib/ir/payloads.h"

namespace tcompress::ir {

struct ModelSource {
    onnx::ModelProto proto;
    Payloads payloads;
    std::shared_ptr<const void> owner;  ///< keeps the payloads' bytes alive
    std::filesystem::path folder;       ///< where external data are
    std::filesystem::path path;         ///< empty for a model made in memory
};

/// Throws ModelError without the file's name. Types are those the file declares.
Model buildModel(ModelSource source);

}  // namespace tcompress::ir
