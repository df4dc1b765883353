#pragma once
// What one block of a model may become, all its parts together: what the allocation chooses from.

#include <cstddef>
#include <vector>

#include "passes/prune/budget/allocation.h"
#include "passes/prune/budget/anatomy.h"
#include "passes/prune/budget/cost_table.h"
#include "passes/prune/budget/error_table.h"

namespace tcompress::passes {

struct BlockOption {
    std::vector<PartChoice> parts;
    Choice choice;  ///< its cost is what it saves, negative
};

/// Every combination of what the block's parts may become whose error is finite.
std::vector<BlockOption> blockOptions(std::size_t block, const CostTable& costs, const Anatomy& anatomy,
                                      const ErrorTable& errors);

}  // namespace tcompress::passes
