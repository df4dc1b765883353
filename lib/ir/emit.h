#pragma once
// Short forms for edits that add chains of nodes.

#include <string>
#include <string_view>
#include <vector>

#include "lib/ir/edit.h"

namespace tcompress::ir {

/// A new node of the standard domain with one output; returns the output. Without a name it is called after
/// its operator ("Mul_12"): short, and there may be many of them.
Value* emit(Edit& edit, std::string_view opType, std::vector<Value*> inputs, std::vector<Attribute> attributes = {},
            std::string name = {});

/// `value` converted to `dtype`.
Value* emitCast(Edit& edit, Value* value, DType dtype);

/// Elements [begin, end) of the last axis.
Value* emitSliceLast(Edit& edit, Value* value, std::int64_t begin, std::int64_t end);

/// A small int64 vector as an initializer.
Value* emitIntegers(Edit& edit, const std::vector<std::int64_t>& values);

}  // namespace tcompress::ir
