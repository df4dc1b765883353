#pragma once
// What every choice saves: the model is put into shapes in which all parts of one shape become the same,
// its cost is read off, and the difference is theirs in equal shares. Between the numbers that were looked at costs
// are interpolated, and keeping more never costs less.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "lib/support/progress.h"
#include "passes/prune/budget/anatomy.h"

namespace tcompress::passes {

/// Cost of a model: seconds, multiply-accumulates, parameters or joules.
using CostMeter = std::function<double(const ir::Model&)>;

struct CostTable {
    double whole = 0;  ///< cost of the model as it is
    /// By Part::shape and units kept: what one such part then saves.
    std::map<std::string, std::map<std::int64_t, double>> saved;
    /// By Part::shape and share of the parameters of its matrices as products.
    std::map<std::string, std::map<std::int64_t, double>> savedByRanks;
    /// By the shapes of a block's parts (blockShape): what all of them dropped together save.
    std::map<std::string, double> savedByBlock;
    /// Costs of whole assignments that were looked at, by assignmentKey(): what the sum of the parts misses.
    std::map<std::string, double> assignments;

    /// The sum of the parts.
    double predicted(const Anatomy& anatomy, const Assignment& assignment) const;
    double savedBy(const Part& part, const PartChoice& choice) const;
    /// Whether it knows the anatomy's shapes.
    bool covers(const Anatomy& anatomy) const;
};

std::string blockShape(const Anatomy& anatomy, const PartGroup& block);
std::string assignmentKey(const Assignment& assignment);

CostTable measureCosts(const ir::Model& model, const Anatomy& anatomy, const CostMeter& meter, Progress& progress);

/// JSON with a checksum. readTable() returns nothing, and says why in `problem`, when the text is not one whole table.
std::string tableText(const CostTable& table, const std::string& origin);
std::optional<CostTable> readTable(const std::string& text, std::string& problem);

}  // namespace tcompress::passes
