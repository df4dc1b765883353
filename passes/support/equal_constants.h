#pragma once
// Constants of the same type, shape and bytes are stored once.

#include <cstddef>
#include <functional>
#include <string>

#include "lib/ir/edit.h"

namespace tcompress::passes {

/// Whether the value is read inside a sub-graph of If, Loop or Scan.
bool isCaptured(const ir::Value& value);

/// Every user of a constant that `isCandidate` accepts reads the first of its equals; how many went. Constants
/// that are outputs of the model or captured stay.
std::size_t mergeEqualConstants(
    ir::Model& model, const std::string& pass,
    const std::function<bool(const Tensor&)>& isCandidate = [](const Tensor&) { return true; });

}  // namespace tcompress::passes
