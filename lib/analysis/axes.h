#pragma once
// The axes of every tensor of a model, made in one pass in topological order with one rule an operator: which
// axes of the inputs are the same, contracted, split, merged, permuted or cut. What the rules do not
// understand is frozen with its reason, never guessed.

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/analysis/axis_store.h"
#include "lib/analysis/concretise.h"
#include "lib/ir/model.h"

namespace tcompress::analysis {

enum class EventKind { softmax, norm, mean, reduce, gather, spatial, dynamicQuantization };

/// An operator that looks at an axis as a whole.
struct AxisEvent {
    EventKind kind;
    const ir::Node* node;
    Axis axis;
};

/// A product with exactly one constant operand: a linear layer.
struct LinearContraction {
    ir::Node* node;
    ir::Value*
        weight;  ///< the constant operand of the node (may come through DequantizeLinear, Transpose, …)
    ir::Value* input;
    ir::Value* output;
    Axis in;   ///< the contracted axis
    Axis out;  ///< the weight's free axis
};

/// A product of two computed tensors (attention scores and contexts).
struct ActivationMatmul {
    ir::Node* node;
    ir::Value* a;
    ir::Value* b;
    ir::Value* output;
    Axis contracted, freeA, freeB;
    std::vector<Axis> batch;
};

/// An operator that is attention as a whole (com.microsoft Attention, MultiHeadAttention,
/// GroupQueryAttention; ONNX 23 Attention). The query's axis is group × repeat × headDim.
struct FusedAttention {
    const ir::Node* node = nullptr;
    ir::Value* query = nullptr;  ///< for a packed operator all three are its input
    ir::Value* key = nullptr;
    ir::Value* value = nullptr;
    ir::Value* output = nullptr;
    Axis group;   ///< key/value heads
    Axis repeat;  ///< query heads of one key/value head; empty when that is 1
    Axis headDim;
    Axis valueDim;
};

/// A side operand of the score path (mask, relative position bias) that is tied only weakly: when heads go,
/// it is gathered.
struct WeakLink {
    ir::Node* node;
    ir::Value* side;
    std::size_t sideAxis;
    Axis sideAxes;   ///< axis of the side operand
    Axis scoreAxes;  ///< the axis of the scores it is broadcast against
};

struct AxisConflictNote {
    const ir::Node* node;
    std::string reason;
};

struct ModelAxes {
    std::shared_ptr<AxisStore> store;
    ConcreteShapes shapes;
    std::unordered_map<const ir::Value*, std::vector<Axis>> axes;
    std::vector<AxisEvent> events;
    std::vector<LinearContraction> linears;
    std::vector<ActivationMatmul> activationMatmuls;
    std::vector<FusedAttention> fusedAttentions;
    std::vector<WeakLink> weakLinks;
    std::vector<AxisConflictNote> conflicts;
    /// Operators without a rule: (domain, type) and how often; their axes are frozen.
    std::vector<std::pair<std::string, int>> unknownOperators;
    /// Values that depend on no graph input (constants and what is folded from them).
    std::unordered_map<const ir::Value*, bool> isConstant;

    /// Constant vectors that several nodes read have no axes of their own but one set per use: exporters
    /// merge equal biases and gammas, which would tie unrelated layers together. shrink() gives differing
    /// uses their own copies.
    std::map<std::pair<const ir::Node*, std::size_t>, std::vector<Axis>> sharedVectorAxes;

    /// Axes of a value; null when its shape is not known.
    const std::vector<Axis>* of(const ir::Value* value) const {
        const auto found = axes.find(value);
        return found == axes.end() ? nullptr : &found->second;
    }
    bool constant(const ir::Value* value) const { return isConstant.count(value) != 0; }
};

/// The stored tensor behind a constant operand: through DequantizeLinear, Cast, Transpose, Reshape, Identity
/// … back to the initializer or Constant node that holds the matrix. Null when several large tensors meet.
ir::Value* storedTensor(const ir::Value* operand);

/// A constant vector of floats (at most one dimension above 1) that several nodes read.
bool isSharedVector(const ir::Value& value);

/// Gives each use of a shared vector its own initializer. Returns how many copies were made. Analysis and
/// shrink() do without it; it is for passes that change such vectors themselves.
int unshareVectors(ir::Model& model);

ModelAxes analyseAxes(const ir::Model& model, const ProbeSizes& sizes = {});

}  // namespace tcompress::analysis
