#pragma once
// From a pass object of a pipeline file to a pass that can run: the family and method are looked up in the
// registry, the options are checked, the pass is made.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "lib/support/diagnostics.h"

namespace tcompress::pipeline {

struct PassStep {
    const PassInfo* info = nullptr;
    std::shared_ptr<const Pass> pass;
    OptionValues options;
    /// A pass that finds nothing to change is no error.
    bool allowEmpty = false;

    /// "prune/neuron", or "cleanup" when the family has one method.
    std::string name() const;
};

std::string fullName(const PassInfo& info);

/// Finds the method, checks the options, makes the pass; problems are added at `pointer`, and the step's pass
/// is null when there are any. When the object names no method, by `method` or by `structure`, the family's
/// default is taken.
PassStep resolvePass(const nlohmann::json& object, std::span<const PassInfo> registry,
                     const std::string& pointer, Diagnostics& diagnostics);

/// The step as the object that resolves to it again, every option given.
nlohmann::json stepJson(const PassStep& step);

/// Methods of one family, in the registry's order.
std::vector<const PassInfo*> familyOf(std::span<const PassInfo> registry, const std::string& type);

/// True for a method that `structure` may name instead of `method`: it has no option of that name, and the
/// family's default has ("prune": structure 2:4 is an option of magnitude, structure neuron is the method
/// neuron).
bool selectedByStructure(const PassInfo& info, std::span<const PassInfo> registry);

/// Keys every pass object may have beside its own options.
const std::vector<std::string>& commonPassKeys();

}  // namespace tcompress::pipeline
