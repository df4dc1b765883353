#pragma once
// The steps of shrink(): everything is planned on a copy of the model, committed there in one edit, and
// checked. Private to lib/analysis.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "lib/analysis/shrink.h"
#include "lib/ir/edit.h"

namespace tcompress::analysis {

class ShrinkPlan {
  public:
    /// `model` is what `axes` was made from; `trial` a copy of it, which is edited.
    ShrinkPlan(const ir::Model& model, const ModelAxes& axes, const KeepMasks& keep, ir::Model& trial,
               std::string pass);
    /// Edits the trial. Throws PassError.
    ShrinkReport apply();
    /// The shape that a value of the model has after the cut, at the probe sizes.
    std::optional<Shape> predictedShape(const ir::Value& value) const;
    /// False when the cut axis's size follows an input dimension.
    bool dependsOnInput(const Axis& axis) const;

  private:
    using Slot = std::pair<const ir::Node*, std::size_t>;

    // shrink_plan.cpp
    void cutConstants();
    void cutGraphValues();
    void cutAttributes();
    void cutSharedVectors();
    void gatherWeakSides();
    void evaluate();
    void freezeShapeArithmetic();
    Tensor cut(const Tensor& tensor, const std::vector<Axis>& axes) const;
    bool touches(const std::vector<Axis>& axes) const;
    [[noreturn]] void refuse(const ir::Node& node, const std::string& reason) const;

    // shape_operands.cpp
    /// What an element of a shape operand must be after the cut; nullopt: whatever it computes is right.
    using Wanted = std::vector<std::optional<std::int64_t>>;
    void patchShapeOperands();
    void patchTarget(const ir::Node& node, std::size_t input);
    void patchTile(const ir::Node& node);
    void patchSplit(const ir::Node& node);
    void patchSlice(const ir::Node& node);
    /// `axisOf` says which axis an element's value comes from.
    void patchOperand(const ir::Node& node, std::size_t input, const Wanted& wanted,
                      const std::function<const Axis&(std::size_t)>& axisOf);
    ir::Value* patchedPieces(const ir::Node& concat, Wanted& wanted, const std::vector<std::int64_t>& now,
                             const std::function<const Axis&(std::size_t)>& axisOf);
    bool isShapeOperand(const ir::Node& node, std::size_t input) const;

    std::optional<std::vector<std::int64_t>> valueNow(const ir::Value& value) const;
    ir::Node* twin(const ir::Node& node) const;
    ir::Value* twin(const ir::Value& value) const;
    ir::Value* constant(const std::string& name, const Tensor& data);
    ir::Value* ints(const std::string& name, const std::vector<std::int64_t>& values, const Shape& shape,
                    DType type);

    const ir::Model& model_;
    const ModelAxes& axes_;
    const AxisStore& store_;
    const KeepMasks& keep_;
    ir::Model& trial_;
    ir::Edit edit_;
    ShrinkReport report_;
    /// Leaves of input dimensions that are not fixed.
    std::unordered_set<AtomId> dynamicLeaves_;
    /// Small values if only the weights were cut: what shape arithmetic computes by itself.
    ConcreteShapes after_;
    /// Small values at other input sizes, to tell what depends on the input.
    ConcreteShapes elsewhere_;
    std::map<std::pair<const ir::Value*, std::vector<bool>>, ir::Value*> cutVectors_;
};

}  // namespace tcompress::analysis
