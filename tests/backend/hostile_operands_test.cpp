// What a model computes between its nodes can have any shape and any value. Every case is run with inputs that do not fit: each
// is either computed or refused with an Error that is not a bug of ours. Memory errors show in a build with a sanitizer.

#include <catch2/catch.hpp>
#include <fmt/core.h>

#include <cstring>
#include <limits>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "tests/backend/case.h"

namespace {

using namespace tcompress;

Tensor zeros(DType type, Shape shape) { return {type, std::move(shape)}; }

/// The tensor's leading elements under another shape, zeros behind them.
Tensor underShape(const Tensor& x, Shape shape) {
    Tensor result = zeros(x.dtype(), std::move(shape));
    const std::size_t bytes = std::min(result.sizeBytes(), x.sizeBytes());
    if (bytes > 0) std::memcpy(result.mutableBytes().data(), x.bytes().data(), bytes);
    return result;
}

/// Variants that an operator has no reason to expect.
std::vector<Tensor> misfits(const Tensor& x) {
    std::vector<Tensor> variants{underShape(x, {}), underShape(x, {x.size()}), underShape(x, {1, 1, 1, x.size(), 1, 1})};
    for (std::size_t axis = 0; axis < x.shape().size(); ++axis) {
        for (std::int64_t size : {x.shape()[axis] - 1, x.shape()[axis] + 1, std::int64_t{0}}) {
            Shape shape = x.shape();
            shape[axis] = std::max<std::int64_t>(0, size);
            variants.push_back(underShape(x, shape));
        }
    }
    if (x.dtype() == DType::int64 && x.size() > 0) {
        for (std::int64_t value : {std::numeric_limits<std::int64_t>::min(), std::int64_t{-1}, std::int64_t{0}, std::int64_t{7}, std::int64_t{1} << 45,
                                   std::numeric_limits<std::int64_t>::max()}) {
            Tensor variant = x;
            std::ranges::fill(variant.mutableData<std::int64_t>(), value);
            variants.push_back(variant);
        }
    }
    return variants;
}

/// A bug's text; empty when the model runs or is refused.
std::string bugOf(const ir::Model& model, const std::map<std::string, exec::Datum>& feeds) {
    try {
        exec::Executor executor(model, {exec::Fusion::none});
        executor.runData(feeds);
    } catch (const InternalError& error) {
        return error.what();
    } catch (const Error&) {
        return {};
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

/// The case's model with nothing said about its inputs' shapes.
ir::Model openModel(const test::OperatorCase& c) {
    onnx::ModelProto proto = test::modelOf(c);
    for (onnx::ValueInfoProto& input : *proto.mutable_graph()->mutable_input()) input.mutable_type()->mutable_tensor_type()->clear_shape();
    for (onnx::ValueInfoProto& output : *proto.mutable_graph()->mutable_output()) output.clear_type();
    proto.mutable_graph()->clear_value_info();
    return ir::fromProto(std::move(proto));
}

/// Loops with a trip count of 2^45 are no error, and sequences have no shape of their own.
bool isLeftOut(const test::Contents& contents) {
    return contents.strings || contents.operators.contains("Loop") || contents.operators.contains("SequenceMap");
}

TEST_CASE("Operands that do not fit are refused") {
    int runs = 0;
    for (const test::OperatorCase& c : test::operatorCases()) {
        const onnx::ModelProto proto = test::modelOf(c);
        const bool tensorsOnly = std::ranges::all_of(proto.graph().input(), [](const auto& input) { return input.type().has_tensor_type(); });
        if (!tensorsOnly || isLeftOut(test::contentsOf(proto))) continue;
        const ir::Model model = openModel(c);
        std::map<std::string, exec::Datum> feeds;
        if (!test::readInputs(c, model, feeds)) continue;
        for (auto& [name, fed] : feeds) {
            const exec::Datum original = fed;
            for (const Tensor& variant : misfits(original.tensor)) {
                fed = variant;
                const std::string bug = bugOf(model, feeds);
                INFO(fmt::format("{}: input '{}' as {} {}: {}", c.label(), name, tcompress::name(variant.dtype()), toString(variant.shape()), bug));
                CHECK(bug.empty());
                ++runs;
            }
            fed = original;
        }
    }
    if (runs > 0) WARN(fmt::format("{} runs with operands that do not fit", runs));
}

}  // namespace
