#include "passes/support/emit.h"

#include <utility>

namespace tcompress::passes {

ir::Value* emit(ir::Edit& edit, std::string_view opType, std::vector<ir::Value*> inputs,
                std::vector<ir::Attribute> attributes, std::string name) {
    ir::NodeSpec spec;
    spec.opType = opType;
    spec.name = std::move(name);
    spec.inputs = std::move(inputs);
    spec.attributes = std::move(attributes);
    return edit.addNode(std::move(spec))->output();
}

ir::Value* emitCast(ir::Edit& edit, ir::Value* value, DType dtype) {
    return emit(edit, "Cast", {value}, {{"to", static_cast<std::int64_t>(dtype)}});
}

ir::Value* emitSliceLast(ir::Edit& edit, ir::Value* value, std::int64_t begin, std::int64_t end) {
    return emit(edit, "Slice",
                {value, emitIntegers(edit, {begin}), emitIntegers(edit, {end}), emitIntegers(edit, {-1})});
}

ir::Value* emitIntegers(ir::Edit& edit, const std::vector<std::int64_t>& values) {
    return edit.addInitializer("indices", Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())},
                                                                   std::span<const std::int64_t>(values)));
}

}  // namespace tcompress::passes
