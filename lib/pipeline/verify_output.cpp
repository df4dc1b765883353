#include "lib/pipeline/verify_output.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "lib/data/dataset.h"
#include "lib/data/inputs.h"
#include "lib/exec/executor.h"
#include "lib/exec/run_once.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/tensor/finite.h"

namespace tcompress::pipeline {

namespace {

/// Long enough for attention to mix several positions, short enough to take no time.
constexpr std::int64_t kShortLength = 8;
constexpr std::uint64_t kTrialSeed = 1;

/// Every free length of the inputs, except the batch and the length of a cache.
std::map<std::string, std::int64_t> shortLengths(const ir::Model& model) {
    std::map<std::string, std::int64_t> sizes;
    for (const data::InputInfo& input : data::modelInputs(model)) {
        if (data::inputRole(input.name) == data::InputRole::pastKeyValue) continue;
        for (std::size_t axis = 1; axis < input.dims.size(); ++axis)
            if (input.dims[axis].size < 0 && !input.dims[axis].symbol.empty())
                sizes[input.dims[axis].symbol] = kShortLength;
    }
    return sizes;
}

bool isFinite(const Tensor& tensor) {
    if (!isFloatingPoint(tensor.dtype())) return true;
    const std::vector<float> values = toFloat32(tensor);
    return allFinite(values);
}

bool fits(const Shape& actual, const Shape& declared) {
    if (actual.size() != declared.size()) return false;
    for (std::size_t i = 0; i < actual.size(); ++i)
        if (declared[i] >= 0 && declared[i] != actual[i]) return false;
    return true;
}

std::vector<Tensor> trialOutputs(const ir::Model& model) {
    try {
        return exec::runOnce(model, data::syntheticDataset(model, 1, kTrialSeed, shortLengths(model)).rows(0, 1));
    } catch (const KernelError&) {
        throw;
    } catch (const Error&) {
        // Some models need longer inputs: an image has to survive its strides.
        return exec::runOnce(model, data::syntheticDataset(model, 1, kTrialSeed).rows(0, 1));
    }
}

}  // namespace

std::string trialRunProblem(const ir::Model& model) {
    const std::vector<Tensor> outputs = trialOutputs(model);
    const std::vector<ir::Value*>& declared = model.graph().outputs();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const std::optional<Shape> shape = declared[i]->shape();
        if (shape && !fits(outputs[i].shape(), *shape))
            return fmt::format("output '{}' has shape {}, declared is {}", declared[i]->name(),
                               toString(outputs[i].shape()), toString(*shape));
        if (!isFinite(outputs[i]))
            return fmt::format("output '{}' holds NaN or infinity", declared[i]->name());
    }
    return "";
}

VerifiedModel verifyWrittenModel(const std::filesystem::path& file, const std::string& name,
                                 const ir::Model& original) {
    VerifiedModel verified{ir::load(file), {}};
    verified.notRun = exec::unsupportedOperators(verified.model);
    if (!verified.notRun.empty()) return verified;
    std::string problem;
    try {
        problem = trialRunProblem(verified.model);
    } catch (const Error& error) {
        problem = fmt::format("does not run: {}", error.what());
    }
    // A model that was so before the passes is not spoilt by them.
    if (!problem.empty() && exec::unsupportedOperators(original).empty()) {
        try {
            if (trialRunProblem(original) == problem) problem.clear();
        } catch (const Error&) {
            problem.clear();
        }
    }
    if (!problem.empty())
        throw ModelError(fmt::format("{}: the compressed model {}; it was not kept", name, problem));
    return verified;
}

}  // namespace tcompress::pipeline
