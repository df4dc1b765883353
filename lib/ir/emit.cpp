#include "lib/ir/emit.h"

#include <utility>

namespace tcompress::ir {

Value* emit(Edit& edit, std::string_view opType, std::vector<Value*> inputs, std::vector<Attribute> attributes, std::string name) {
    NodeSpec spec;
    spec.opType = opType;
    spec.name = std::move(name);
    spec.inputs = std::move(inputs);
    spec.attributes = std::move(attributes);
    return edit.addNode(std::move(spec))->output();
}

Value* emitCast(Edit& edit, Value* value, DType dtype) {
    return emit(edit, "Cast", {value}, {{"to", static_cast<std::int64_t>(dtype)}});
}

Value* emitSliceLast(Edit& edit, Value* value, std::int64_t begin, std::int64_t end) {
    return emit(edit, "Slice",
                {value, emitIntegers(edit, {begin}), emitIntegers(edit, {end}), emitIntegers(edit, {-1})});
}

Value* emitIntegers(Edit& edit, const std::vector<std::int64_t>& values) {
    return edit.addInitializer("indices", Tensor::of<std::int64_t>({static_cast<std::int64_t>(values.size())},
                                                                   std::span<const std::int64_t>(values)));
}

}  // namespace tcompress::ir
