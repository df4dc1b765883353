#pragma once
// The list of passes. Adding one: its file, its declaration here, one line in registry.cpp.

#include <span>

#include "lib/pipeline/pass.h"

namespace tcompress::passes {

/// Every pass, in the order `tcompress passes` prints them.
std::span<const pipeline::PassInfo> registry();

}  // namespace tcompress::passes
