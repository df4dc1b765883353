#pragma once
// Reads the attributes of a NodeProto: an operator does so once, when the plan is made.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tensor/tensor.h"

// Operators include this header and nothing of protobuf: its headers take seconds to compile.
namespace onnx {
class AttributeProto;
class GraphProto;
class NodeProto;
class TensorProto;
}  // namespace onnx

namespace tcompress::exec {

class Attributes {
  public:
    explicit Attributes(const onnx::NodeProto& node) : node_(&node) {}

    const onnx::AttributeProto* find(std::string_view name) const;
    bool has(std::string_view name) const { return find(name) != nullptr; }
    std::int64_t integer(std::string_view name, std::int64_t fallback) const;
    float real(std::string_view name, float fallback) const;
    std::string text(std::string_view name, std::string_view fallback) const;
    std::optional<std::vector<std::int64_t>> integers(std::string_view name) const;
    std::optional<std::vector<float>> reals(std::string_view name) const;
    std::vector<std::string> texts(std::string_view name) const;
    std::optional<Tensor> tensor(std::string_view name) const;
    /// Null when there is no such sub-graph.
    const onnx::GraphProto* graph(std::string_view name) const;

  private:
    const onnx::NodeProto* node_;
};

/// A dense tensor of any encoding (raw or typed fields). Throws ModelError when its data are external or too short.
Tensor tensorFromProto(const onnx::TensorProto& proto);

void setAttribute(onnx::NodeProto& node, std::string_view name, std::int64_t value);
void setAttribute(onnx::NodeProto& node, std::string_view name, float value);
void setAttribute(onnx::NodeProto& node, std::string_view name, std::string_view value);
void setAttribute(onnx::NodeProto& node, std::string_view name, const std::vector<std::int64_t>& values);

}  // namespace tcompress::exec
