#pragma once
// A loaded model: the graph overlay and the envelope around it (ir_version, opsets, metadata, functions,
// training info, graph doc strings …), which is kept as it came.

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "lib/ir/graph.h"

namespace tcompress::ir {

/// What modelToProto does with constant data of 1 KiB and more.
enum class WeightData {
    embed,     ///< as raw_data in the proto: a complete model (small models, tests, version conversion)
    skeleton,  ///< left out (data_location = EXTERNAL, no bytes): enough for onnx::shape_inference, at any
               ///< model size
};

class Model {
  public:
    Model();
    ~Model();
    Model(Model&&) noexcept;
    Model& operator=(Model&&) noexcept;

    Graph& graph() { return *graph_; }
    const Graph& graph() const { return *graph_; }

    /// Version of the operator set of a domain ("" is the standard one); 0 when the model does not import it.
    std::int64_t opset(std::string_view domain = "") const;
    /// Where it was loaded from; empty for a model made in memory.
    const std::filesystem::path& path() const { return path_; }
    /// Everything except graph.node, initializer, sparse_initializer, input, output and value_info.
    const onnx::ModelProto& envelope() const { return envelope_; }

    /// Goes up by at least one with every committed edit: analyses are cached by it.
    std::uint64_t revision() const { return revision_; }
    /// An independent copy; constant data are shared until written.
    Model clone() const;

    /// Bytes of all constant data (initializers and Constant nodes), a shared one counted once.
    std::uint64_t constantBytes() const;

  private:
    friend struct Internals;
    std::unique_ptr<Graph> graph_;
    onnx::ModelProto envelope_;
    std::filesystem::path path_;
    std::uint64_t revision_ = 0;
    std::uint64_t loadedRevision_ = 0;  ///< revision_ when the file was read: equal means unedited
};

/// The overlay as a protobuf. Throws ModelError when it would pass protobuf's 2 GiB limit.
onnx::ModelProto modelToProto(const Model& model, WeightData weights);

}  // namespace tcompress::ir
