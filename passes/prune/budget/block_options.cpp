#include "passes/prune/budget/block_options.h"

#include <algorithm>
#include <cmath>

namespace tcompress::passes {

std::vector<BlockOption> blockOptions(std::size_t block, const CostTable& costs, const Anatomy& anatomy,
                                      const ErrorTable& errors) {
    const PartGroup& group = anatomy.blocks[block];
    std::vector<BlockOption> options = {{{}, {}}};
    for (const std::size_t p : group.parts) {
        const Part& part = anatomy.parts[p];
        std::vector<BlockOption> longer;
        for (const BlockOption& option : options)
            for (std::size_t i = 0; i < part.choices.size(); ++i) {
                if (!std::isfinite(errors.parts[p][i])) continue;
                BlockOption next = option;
                next.parts.push_back(part.choices[i]);
                next.choice.cost -= costs.savedBy(part, part.choices[i]);
                next.choice.error += errors.parts[p][i];
                longer.push_back(std::move(next));
            }
        options = std::move(longer);
    }
    if (!group.canGo) return options;
    // All of it dropped is one map, not the sum of its parts.
    std::erase_if(options, [](const BlockOption& option) {
        return std::all_of(option.parts.begin(), option.parts.end(), [](const PartChoice& part) { return part.isDropped(); });
    });
    const double error = errors.blocks[block];
    if (std::isfinite(error))
        options.push_back({std::vector<PartChoice>(group.parts.size(), PartChoice(0)),
                           {-costs.savedByBlock.at(blockShape(anatomy, group)), error}});
    return options;
}

}  // namespace tcompress::passes
