#include "passes/norm/root_mean_square.h"

#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kOpsetOfAxesAsInput = 18;
constexpr std::int64_t kOpsetOfRmsNormalization = 23;

}  // namespace

ir::Value* RootMeanSquare::scalar(const char* name, float value) {
    ir::Value*& known = scalars_[value];
    if (known == nullptr)
        known = edit_.addInitializer(name, Tensor::of<float>({}, std::span<const float>(&value, 1)));
    return known;
}

ir::Value* RootMeanSquare::spelledOut(ir::Value* input, ir::Value* gain, float epsilon) {
    ir::Value* const square = emit(edit_, "Pow", {input, scalar("two", 2)});
    ir::Value* const mean = emitMeanOverLast(edit_, square, opset_);
    ir::Value* const root = emit(edit_, "Sqrt", {emit(edit_, "Add", {mean, scalar("epsilon", epsilon)})});
    return emit(edit_, "Mul", {emit(edit_, "Div", {input, root}), gain});
}

void RootMeanSquare::replace(ir::Node& norm, ir::Value* bias) {
    if (norm.is("Sub")) return edit_.replaceAllUses(norm.output(), norm.input(0));
    const float epsilon = norm.attributeFloat("epsilon", 1e-5F);
    ir::Value* const gain = norm.input(1);
    ir::Value* result = opset_ >= kOpsetOfRmsNormalization
                            ? emit(edit_, "RMSNormalization", {norm.input(0), gain}, {{"epsilon", epsilon}})
                            : spelledOut(norm.input(0), gain, epsilon);
    if (bias != nullptr) result = emit(edit_, "Add", {result, bias});
    edit_.replaceAllUses(norm.output(), result);
}

ir::Value* biasOf(const ir::Node& norm) {
    return norm.is("LayerNormalization") && norm.inputs().size() > 2 ? norm.input(2) : nullptr;
}

ir::Value* emitMeanOverLast(ir::Edit& edit, ir::Value* value, std::int64_t opset) {
    if (opset >= kOpsetOfAxesAsInput) return emit(edit, "ReduceMean", {value, emitIntegers(edit, {-1})});
    return emit(edit, "ReduceMean", {value}, {{"axes", std::vector<std::int64_t>{-1}}});
}

}  // namespace tcompress::passes
