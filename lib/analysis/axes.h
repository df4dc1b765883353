#pragma once
// The axes of every tensor of a model, made in one pass in topological order with one rule an operator: which axes of the
// inputs are the same, contracted, split, merged, permuted or cut. What the rules do not understand is frozen with its
// reason, never guessed.

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
    ir::Value* weight;  ///< the constant operand of the node (may come through DequantizeLinear, Transpose, …)
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

/// A side operand of the score path (mask, relative position bias) that is tied only weakly: when heads go, it is gathered.
struct WeakLink {
    ir::Node* node;
    ir::Value* side;
    std::size_t sideAxis;
    Axis sideAxes;
    Axis scoreAxes;
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
    std::vector<WeakLink> weakLinks;
    std::vector<AxisConflictNote> conflicts;
    /// Operators without a rule: (domain, type) and how often; their axes are frozen.
    std::vector<std::pair<std::string, int>> unknownOperators;
    /// Constant-only values (folded paths).
    std::unordered_map<const ir::Value*, bool> isConstant;
};

/// Merged one-dimensional float initializers (equal biases and gammas that exporters share) tie unrelated layers together:
/// gives each use its own copy. Returns how many copies were made. Run before analyseAxes when the model will be cut.
int unshareVectors(ir::Model& model);

ModelAxes analyseAxes(const ir::Model& model, const ProbeSizes& sizes = {});

}  // namespace tcompress::analysis
