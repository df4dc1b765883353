#pragma once
// Models with random weights for the tests of passes that change weights.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lib/ir/load.h"
#include "lib/pipeline/pass.h"

namespace tcompress::test {

/// Normally distributed values with a standard deviation.
Tensor randomTensor(Shape shape, std::uint64_t seed, double deviation = 0.05);

/// The model of an ONNX text, in which the named initializers (written there as one float) get random values
/// of these shapes.
ir::Model modelWithWeights(const std::string& text, const std::map<std::string, Shape>& weights);

/// A model of tests/data/models, without ".onnx".
ir::Model dataModel(const std::string& name);

using Feeds = std::map<std::string, Tensor>;
/// Random inputs of the model, the same each time.
Feeds feedsFor(const ir::Model& model);

std::vector<Tensor> outputsOf(const ir::Model& model, const Feeds& feeds);
/// In ONNX Runtime; call only when haveJudge().
std::vector<Tensor> runtimeOutputsOf(const ir::Model& model, const Feeds& feeds);

/// Largest |a − b| over all outputs, relative to the range of b's output. Fails the test when shapes differ.
double largestDifference(const std::vector<Tensor>& a, const std::vector<Tensor>& b);

std::size_t countOf(const ir::Model& model, const std::string& opType);
const pipeline::SkippedSite* skippedSite(const pipeline::PassReport& report, const std::string& site);

}  // namespace tcompress::test
