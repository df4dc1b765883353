#pragma once
// Writing ONNX files: streamed (constant data are never collected in memory), atomic (temporary file, fsync,
// rename), the same bytes for the same model every time.

#include <cstdint>
#include <filesystem>

#include "lib/ir/model.h"

namespace tcompress::ir {

enum class ExternalData {
    automatic,  ///< only when the file would pass 1.9 GiB
    always,
};

struct SaveOptions {
    ExternalData externalData = ExternalData::automatic;
    /// Refuse to write onto any file whose bytes the model still maps? No: rename replaces it safely. But an
    /// external data file that the model maps is never overwritten in place.
    bool check = true;  ///< run onnx::checker on the written file before it takes the target's place
};

struct SaveResult {
    std::uint64_t fileBytes = 0;  ///< model file plus external data
    std::vector<std::filesystem::path> files;
};

/// Writes the model. External data go to "<file name>.data" beside it. An unedited model comes out
/// byte-identical to the protobuf it was loaded from when that was in canonical field order. Throws
/// ModelError or Error.
SaveResult save(const Model& model, const std::filesystem::path& path, const SaveOptions& options = {});

/// ONNX's text syntax (onnx/defs/printer.h), without large data: golden tests, dumps.
std::string toText(const Model& model);

}  // namespace tcompress::ir
