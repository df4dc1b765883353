#include "tests/support/text_model.h"

#include <fmt/core.h>
#include <onnx/defs/parser.h>
#include <onnx/defs/printer.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/support/error.h"
#include "lib/support/random.h"

namespace tcompress::test {

namespace {

/// Multiples of a power of two: exact in every text and on every machine.
void fillWithRandomData(const onnx::ValueInfoProto& declared, onnx::TensorProto& tensor) {
    tensor.set_name(declared.name());
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    std::int64_t size = 1;
    for (const auto& dimension : declared.type().tensor_type().shape().dim()) {
        tensor.add_dims(dimension.dim_value());
        size *= dimension.dim_value();
    }
    Random random(1, declared.name());
    for (std::int64_t i = 0; i < size; ++i)
        tensor.add_float_data((static_cast<float>(random.below(2048)) - 1024) / 8192);
}

constexpr std::int64_t mostValuesSpelledOut = 32;

std::int64_t valueCount(const onnx::TensorProto& tensor) {
    return std::accumulate(tensor.dims().begin(), tensor.dims().end(), std::int64_t{1}, std::multiplies<>());
}

void declare(const onnx::TensorProto& tensor, onnx::ValueInfoProto& declared) {
    declared.set_name(tensor.name());
    auto& type = *declared.mutable_type()->mutable_tensor_type();
    type.set_elem_type(tensor.data_type());
    for (const std::int64_t dimension : tensor.dims())
        type.mutable_shape()->add_dim()->set_dim_value(dimension);
}

}  // namespace

ir::Model modelFromText(const std::string& text) {
    onnx::ModelProto proto;
    onnx::OnnxParser parser(text.c_str());
    if (const auto status = parser.Parse(proto); !status.IsOK())
        throw ModelError(fmt::format("cannot parse the model's text: {}", status.ErrorMessage()));
    onnx::GraphProto& graph = *proto.mutable_graph();
    std::set<std::string> computed;
    for (const onnx::NodeProto& node : graph.node())
        computed.insert(node.output().begin(), node.output().end());
    auto& values = *graph.mutable_value_info();
    const auto weights = std::stable_partition(
        values.begin(), values.end(), [&](const auto& value) { return computed.contains(value.name()); });
    for (auto weight = weights; weight != values.end(); ++weight)
        fillWithRandomData(*weight, *graph.add_initializer());
    values.erase(weights, values.end());
    return ir::fromProto(std::move(proto));
}

std::string textOfModel(const ir::Model& model) {
    onnx::ModelProto proto = ir::modelToProto(model, ir::WeightData::embed);
    onnx::GraphProto& graph = *proto.mutable_graph();
    auto& tensors = *graph.mutable_initializer();
    const auto large = std::stable_partition(tensors.begin(), tensors.end(), [](const auto& tensor) {
        return valueCount(tensor) <= mostValuesSpelledOut;
    });
    for (auto tensor = large; tensor != tensors.end(); ++tensor) declare(*tensor, *graph.add_value_info());
    tensors.erase(large, tensors.end());
    return onnx::ProtoToString(proto);
}

}  // namespace tcompress::test
