// What a model computes between its nodes can have any shape and any value, and attributes are what the file says. Cases are run
// with inputs and attributes that do not fit: each is either computed or refused with an Error that is not a bug of ours, and analysis
// reads each without a fault. Memory errors show in a build with a sanitizer.

#include <catch2/catch.hpp>
#include <fmt/core.h>

#include <cstring>
#include <limits>

#include "lib/analysis/cost.h"
#include "lib/analysis/transformer_view.h"
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
    if (x.dtype() == DType::float32 && x.size() > 0) {
        variants.push_back(x);
        std::ranges::fill(variants.back().mutableData<float>(), std::numeric_limits<float>::quiet_NaN());
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
std::string bugOf(const onnx::ModelProto& proto, const std::map<std::string, exec::Datum>& feeds) {
    try {
        const ir::Model model = ir::fromProto(proto);
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

/// The same for what reads a model without running it. Operands of whole numbers are constants, which shapes are computed from.
std::string bugInAnalysis(onnx::ModelProto proto, const std::map<std::string, exec::Datum>& feeds) {
    onnx::GraphProto& graph = *proto.mutable_graph();
    for (int i = graph.input_size(); i-- > 0;) {
        onnx::ValueInfoProto& input = *graph.mutable_input(i);
        const auto fed = feeds.find(input.name());
        if (fed == feeds.end()) continue;
        const Tensor& x = fed->second.tensor;
        onnx::TensorShapeProto& shape = *input.mutable_type()->mutable_tensor_type()->mutable_shape();
        shape.clear_dim();
        for (std::int64_t size : x.shape()) shape.add_dim()->set_dim_value(size);
        if (isFloatingPoint(x.dtype()) || x.size() == 0) continue;
        onnx::TensorProto& constant = *graph.add_initializer();
        constant.set_name(input.name());
        constant.set_data_type(static_cast<int>(x.dtype()));
        for (std::int64_t size : x.shape()) constant.add_dims(size);
        constant.set_raw_data(x.bytes().data(), x.sizeBytes());
        graph.mutable_input()->DeleteSubrange(i, 1);
    }
    try {
        const ir::Model model = ir::fromProto(proto);
        analysis::cost(model, analysis::recognise(model));
    } catch (const ModelError&) {
        return {};
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

/// The model with nothing said about its inputs' shapes.
onnx::ModelProto openModel(onnx::ModelProto proto) {
    for (onnx::ValueInfoProto& input : *proto.mutable_graph()->mutable_input()) input.mutable_type()->mutable_tensor_type()->clear_shape();
    for (onnx::ValueInfoProto& output : *proto.mutable_graph()->mutable_output()) output.clear_type();
    proto.mutable_graph()->clear_value_info();
    return proto;
}

/// A case's model and inputs that a test may damage. Only the newest suite, and no expanded forms: there one operator has one
/// model. Loops are left out (2^45 iterations are no error), and so are sequences, which have no shape of their own.
struct Subject {
    test::OperatorCase source;
    onnx::ModelProto proto;
    std::map<std::string, exec::Datum> feeds;
};
std::vector<Subject> subjects() {
    std::vector<Subject> found;
    for (const test::OperatorCase& c : test::operatorCases()) {
        if (c.suite.ends_with("-simple") || c.suite == "onnx-1.16.2" || c.name.find("_expanded") != std::string::npos) continue;
        const onnx::ModelProto proto = test::modelOf(c);
        const bool tensorsOnly = std::ranges::all_of(proto.graph().input(), [](const auto& input) { return input.type().has_tensor_type(); });
        const test::Contents contents = test::contentsOf(proto);
        if (!tensorsOnly || contents.strings || contents.operators.contains("Loop") || contents.operators.contains("SequenceMap")) continue;
        Subject subject{c, openModel(proto), {}};
        if (test::readInputs(c, ir::fromProto(subject.proto), subject.feeds)) found.push_back(std::move(subject));
    }
    return found;
}

TEST_CASE("Operands that do not fit are refused") {
    int runs = 0;
    for (Subject& subject : subjects()) {
        for (auto& [name, fed] : subject.feeds) {
            const exec::Datum original = fed;
            for (const Tensor& variant : misfits(original.tensor)) {
                fed = variant;
                INFO(fmt::format("{}: input '{}' as {} {}", subject.source.label(), name, tcompress::name(variant.dtype()), toString(variant.shape())));
                CHECK(bugOf(subject.proto, subject.feeds) == "");
                CHECK(bugInAnalysis(test::modelOf(subject.source), subject.feeds) == "");
                ++runs;
            }
            fed = original;
        }
    }
    if (runs > 0) WARN(fmt::format("{} runs with operands that do not fit", runs));
}

TEST_CASE("Attributes that do not fit are refused") {
    int runs = 0;
    for (Subject& subject : subjects()) {
        for (onnx::NodeProto& node : *subject.proto.mutable_graph()->mutable_node()) {
            for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
                const onnx::AttributeProto original = attribute;
                const auto check = [&] {
                    INFO(subject.source.label() << ": " << attribute.ShortDebugString());
                    CHECK(bugOf(subject.proto, subject.feeds) == "");
                    CHECK(bugInAnalysis(subject.proto, subject.feeds) == "");
                    ++runs;
                };
                for (std::int64_t value : {std::int64_t{-7}, std::int64_t{0}, std::int64_t{3}, std::int64_t{1} << 45}) {
                    if (attribute.has_i()) attribute.set_i(value);
                    for (std::int64_t& entry : *attribute.mutable_ints()) entry = value;
                    if (attribute.has_i() || attribute.ints_size() > 0) check();
                    attribute = original;
                    if (attribute.ints_size() > 0) {
                        attribute.set_ints(0, value);
                        check();
                    }
                    attribute = original;
                }
                if (attribute.ints_size() == 0) continue;
                attribute.mutable_ints()->RemoveLast();
                check();
                attribute.mutable_ints()->Clear();
                check();
                attribute = original;
            }
        }
    }
    if (runs > 0) WARN(fmt::format("{} runs with attributes that do not fit", runs));
}

TEST_CASE("Operands in each other's places, left out, or too many are refused") {
    int runs = 0;
    for (Subject& subject : subjects()) {
        for (onnx::NodeProto& node : *subject.proto.mutable_graph()->mutable_node()) {
            const onnx::NodeProto original = node;
            const auto check = [&](const char* what) {
                INFO(subject.source.label() << ": " << node.op_type() << ", " << what);
                CHECK(bugOf(subject.proto, subject.feeds) == "");
                CHECK(bugInAnalysis(subject.proto, subject.feeds) == "");
                ++runs;
            };
            for (int i = 0; i < original.input_size(); ++i) {
                node.mutable_input()->SwapElements(0, i);
                check("swapped");
                node = original;
                node.set_input(i, "");
                check("left out");
                node = original;
            }
            if (original.input_size() == 0) continue;
            node.mutable_input()->RemoveLast();
            check("one too few");
            node = original;
            node.add_input(original.input(0));
            check("one too many");
            node = original;
        }
    }
    if (runs > 0) WARN(fmt::format("{} runs with operands in wrong places", runs));
}

}  // namespace
