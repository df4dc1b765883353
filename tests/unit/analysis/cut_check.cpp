#include "tests/unit/analysis/cut_check.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/exec/executor.h"
#include "lib/ir/validate.h"

namespace tcompress::analysis {

namespace {

Tensor randomTensor(const ir::Value& input, const Shape& shape, Random& random) {
    const std::int64_t count = elementCount(shape);
    if (isFloatingPoint(input.dtype())) {
        Tensor tensor(DType::float32, shape);
        const bool cache = input.name().find("past") != std::string::npos;
        for (float& v : tensor.mutableData<float>()) v = cache ? 0.0F : static_cast<float>(random.normal());
        return tensor;
    }
    std::vector<std::int64_t> values(static_cast<std::size_t>(count), 1);
    const bool ids =
        input.name().find("ids") != std::string::npos && input.name().find("type") == std::string::npos;
    for (std::int64_t& v : values) v = ids ? 1 + static_cast<std::int64_t>(random.below(50)) : 1;
    if (input.name().find("type") != std::string::npos) std::fill(values.begin(), values.end(), 0);
    return convert(Tensor::of<std::int64_t>(shape, std::span<const std::int64_t>(values)), input.dtype());
}

exec::Feeds feedsFor(const ir::Model& model, const ProbeSizes& sizes, std::uint64_t seed) {
    const auto shapes = concretise(model, sizes).inputShapes();
    exec::Feeds feeds;
    for (const ir::Value* input : model.graph().inputs()) {
        Random random(seed, input->name());
        feeds[input->name()] = randomTensor(*input, shapes.at(input->name()), random);
    }
    return feeds;
}

double largest(const Tensor& a) {
    double worst = 0;
    for (float v : a.data<float>()) {
        if (std::isfinite(v)) worst = std::max(worst, std::fabs(static_cast<double>(v)));
    }
    return worst;
}

double relativeDifference(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        // Caches became smaller; what they hold shows in the other outputs.
        if (a[i].dtype() != DType::float32 || a[i].shape() != b[i].shape()) continue;
        double difference = 0;
        for (std::int64_t k = 0; k < a[i].size(); ++k) {
            const float x = a[i].data<float>()[static_cast<std::size_t>(k)];
            const float y = b[i].data<float>()[static_cast<std::size_t>(k)];
            if (std::isfinite(x) != std::isfinite(y)) return INFINITY;
            if (std::isfinite(x)) difference = std::max(difference, std::fabs(static_cast<double>(x) - y));
        }
        worst = std::max(worst, difference / std::max(1e-30, largest(a[i])));
    }
    return worst;
}

}  // namespace

CutResult compareCut(const ir::Model& model, const TransformerView& view, const KeepMasks& keep,
                     const KeepMasks& wrong) {
    const ir::Model masked = maskedModel(model, view, keep);
    ir::Model cut = model.clone();
    shrink(cut, analyseAxes(cut), wrong.empty() ? keep : wrong, "test");
    ir::validateStructure(cut);
    exec::Executor original(model), reference(masked), candidate(cut);
    CutResult result;
    for (const ProbeSizes& sizes : {ProbeSizes{}, alternativeSizes(model)}) {
        const auto expected = reference.run(feedsFor(model, sizes, 3));
        result.difference =
            std::max(result.difference, relativeDifference(expected, candidate.run(feedsFor(cut, sizes, 3))));
        result.effect =
            std::max(result.effect, relativeDifference(original.run(feedsFor(model, sizes, 3)), expected));
    }
    return result;
}

}  // namespace tcompress::analysis
