#pragma once
// Short forms for edits that add chains of nodes.

#include <string>
#include <string_view>
#include <vector>

#include "lib/ir/edit.h"

namespace tcompress::passes {

/// A new node of the standard domain with one output; returns the output. Without a name it is called after
/// its operator ("Mul_12"): short, and there may be many of them.
ir::Value* emit(ir::Edit& edit, std::string_view opType, std::vector<ir::Value*> inputs,
                std::vector<ir::Attribute> attributes = {}, std::string name = {});

/// `value` converted to `dtype`.
ir::Value* emitCast(ir::Edit& edit, ir::Value* value, DType dtype);

/// Elements [begin, end) of the last axis.
ir::Value* emitSliceLast(ir::Edit& edit, ir::Value* value, std::int64_t begin, std::int64_t end);

/// A small int64 vector as an initializer.
ir::Value* emitIntegers(ir::Edit& edit, const std::vector<std::int64_t>& values);

}  // namespace tcompress::passes
