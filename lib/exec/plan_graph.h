#pragma once
// The graph that a plan is made from: the model's graph, or a sub-graph, as plain lists that fusion may rewrite without
// touching the model. Constant nodes are gone (their values are constants); captured values of sub-graphs are extra
// inputs of the node that has the sub-graph.

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/ir/model.h"
#include "lib/tensor/tensor.h"

namespace tcompress::exec {

using ValueId = std::int32_t;
inline constexpr ValueId kNoValue = -1;

struct PlanValue {
    std::string name;
    Tensor constant;  ///< type undefined: computed
    DType dtype = DType::undefined;
    const ir::Value* source = nullptr;  ///< null inside sub-graphs and for values that fusion made
    bool kept = false;                  ///< a graph output or observed: must be computed under this id

    bool isConstant() const { return constant.dtype() != DType::undefined; }
};

struct PlanNode {
    std::shared_ptr<const onnx::NodeProto> proto;
    std::string domain;
    std::int64_t version = 0;
    std::vector<ValueId> inputs;
    std::vector<ValueId> outputs;
    std::size_t capturedFrom = 0;  ///< inputs from here on are captured by sub-graphs

    const std::string& opType() const { return proto->op_type(); }
    bool is(std::string_view type) const { return domain.empty() && proto->op_type() == type; }
    bool is(std::string_view ofDomain, std::string_view type) const { return domain == ofDomain && proto->op_type() == type; }
    ValueId input(std::size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
    ValueId output(std::size_t i = 0) const { return i < outputs.size() ? outputs[i] : kNoValue; }
    /// What messages call the node: its name, its first output's name, or its operator.
    std::string label() const;
};

/// The operator set versions that apply, by domain.
using Opsets = std::unordered_map<std::string, std::int64_t>;
Opsets opsetsOf(const ir::Model& model);

struct PlanGraph {
    std::vector<PlanValue> values;
    std::vector<PlanNode> nodes;  ///< in topological order
    std::vector<ValueId> inputs;
    std::vector<ValueId> outputs;
    Opsets opsets;

    ValueId addValue(PlanValue value) {
        values.push_back(std::move(value));
        return static_cast<ValueId>(values.size()) - 1;
    }
    ValueId addConstant(std::string name, Tensor constant);
    const Tensor* constant(ValueId id) const {
        return id != kNoValue && values[static_cast<std::size_t>(id)].isConstant() ? &values[static_cast<std::size_t>(id)].constant
                                                                                    : nullptr;
    }
    PlanValue& value(ValueId id) { return values[static_cast<std::size_t>(id)]; }
    const PlanValue& value(ValueId id) const { return values[static_cast<std::size_t>(id)]; }
};

/// The model's main graph. Values that are graph outputs are kept.
PlanGraph planGraphOf(const ir::Model& model);
/// A body: its inputs are the sub-graph's own, then the values named in `captured`.
PlanGraph planGraphOf(const onnx::GraphProto& body, const std::vector<std::string>& captured, const Opsets& opsets);

}  // namespace tcompress::exec
