#include "tests/backend/case.h"

#include <catch2/catch.hpp>
#include <fmt/core.h>
#include <onnx/onnx-data.pb.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "lib/exec/attributes.h"
#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace tcompress::test {

namespace fs = std::filesystem;

namespace {

/// ONNX Runtime's own tolerances for these cases.
constexpr double kRelative = 1e-3;
constexpr double kAbsolute = 1e-5;
/// 16-bit results may also lie two numbers of their type apart: the references round intermediate results, at other places.
constexpr int kSteps = 2;

template <class Proto>
Proto readProto(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    Proto proto;
    if (!proto.ParseFromIstream(&file)) throw DataError(fmt::format("{} cannot be read", path.string()));
    return proto;
}

/// `declared`: NumPy has no bfloat16, so older files hold its bits as uint16.
Tensor readTensor(const fs::path& path, DType declared) {
    const Tensor tensor = exec::tensorFromProto(readProto<onnx::TensorProto>(path));
    const bool isBits = declared == DType::bfloat16 && tensor.dtype() == DType::uint16;
    return isBits ? Tensor::share(declared, tensor.shape(), tensor.storage()) : tensor;
}

exec::Sequence tensorsOf(const onnx::SequenceProto& proto) {
    exec::Sequence tensors;
    for (const onnx::TensorProto& tensor : proto.tensor_values()) tensors.push_back(exec::tensorFromProto(tensor));
    return tensors;
}

exec::Datum readDatum(const fs::path& path, const ir::Value& value) {
    const onnx::TypeProto* type = value.type();
    if (type && type->has_sequence_type()) return tensorsOf(readProto<onnx::SequenceProto>(path));
    if (!type || !type->has_optional_type()) return readTensor(path, value.dtype());
    const auto proto = readProto<onnx::OptionalProto>(path);
    if (proto.has_tensor_value()) return exec::tensorFromProto(proto.tensor_value());
    if (proto.has_sequence_value()) return tensorsOf(proto.sequence_value());
    return {};
}

/// Significant bits of the 16-bit types, the leading one included.
int precision(DType type) { return type == DType::bfloat16 ? 8 : type == DType::float16 ? 11 : 64; }

bool near(double found, double expected, DType type) {
    if (std::isnan(expected)) return std::isnan(found);
    if (std::isinf(expected)) return found == expected;
    const double step = expected == 0 ? 0 : std::ldexp(1.0, std::ilogb(expected) + 1 - precision(type));
    return std::abs(found - expected) <= std::max(kAbsolute + kRelative * std::abs(expected), kSteps * step);
}

/// Empty when equal.
std::string difference(const Tensor& found, const Tensor& expected) {
    if (found.dtype() != expected.dtype()) return fmt::format("type {}, expected {}", name(found.dtype()), name(expected.dtype()));
    if (found.shape() != expected.shape()) return fmt::format("shape {}, expected {}", toString(found.shape()), toString(expected.shape()));
    if (isInteger(found.dtype()) && std::ranges::equal(found.bytes(), expected.bytes())) return {};
    const Tensor a = convert(found, DType::float64);
    const Tensor b = convert(expected, DType::float64);
    for (std::int64_t i = 0; i < a.size(); ++i) {
        const double x = a.data<double>()[static_cast<std::size_t>(i)];
        const double y = b.data<double>()[static_cast<std::size_t>(i)];
        if (!near(x, y, found.dtype())) return fmt::format("element {} is {}, expected {}", i, x, y);
    }
    return {};
}

std::string difference(const exec::Datum& found, const exec::Datum& expected) {
    if (found.isTensor() && expected.isTensor()) return difference(found.tensor, expected.tensor);
    if (!found.sequence || !expected.sequence) return found.isEmpty() && expected.isEmpty() ? "" : "another kind of value than expected";
    if (found.sequence->size() != expected.sequence->size()) {
        return fmt::format("a sequence of {}, expected {}", found.sequence->size(), expected.sequence->size());
    }
    for (std::size_t i = 0; i < found.sequence->size(); ++i) {
        const std::string inside = difference((*found.sequence)[i], (*expected.sequence)[i]);
        if (!inside.empty()) return fmt::format("position {}: {}", i, inside);
    }
    return {};
}

std::map<std::string, exec::Datum> readFeeds(const fs::path& set, const ir::Model& model) {
    std::map<std::string, exec::Datum> feeds;
    for (std::size_t i = 0; i < model.graph().inputs().size(); ++i) {
        const ir::Value& input = *model.graph().inputs()[i];
        feeds.emplace(input.name(), readDatum(set / fmt::format("input_{}.pb", i), input));
    }
    return feeds;
}

std::string run(const OperatorCase& c, exec::Fusion fusion) {
    try {
        const ir::Model model = ir::load(c.folder / "model.onnx");
        exec::Executor executor(model, {fusion});
        for (const fs::directory_entry& set : fs::directory_iterator(c.folder)) {
            if (!set.is_directory()) continue;
            const std::vector<exec::Datum> outputs = executor.runData(readFeeds(set.path(), model));
            for (std::size_t i = 0; i < outputs.size(); ++i) {
                const fs::path path = set.path() / fmt::format("output_{}.pb", i);
                const std::string found = difference(outputs[i], readDatum(path, *model.graph().outputs()[i]));
                if (!found.empty()) return fmt::format("output {}: {}", i, found);
            }
        }
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

bool holdsStrings(const onnx::TypeProto& type) {
    if (type.has_sequence_type()) return holdsStrings(type.sequence_type().elem_type());
    if (type.has_optional_type()) return holdsStrings(type.optional_type().elem_type());
    return type.tensor_type().elem_type() == onnx::TensorProto::STRING;
}

void collect(const onnx::GraphProto& graph, const std::map<std::string, std::int64_t>& opsets, Contents& contents) {
    for (const auto* infos : {&graph.input(), &graph.output()}) {
        for (const onnx::ValueInfoProto& info : *infos) contents.strings |= holdsStrings(info.type());
    }
    for (const onnx::NodeProto& node : graph.node()) {
        const std::string domain = node.domain() == "ai.onnx" ? "" : node.domain();
        contents.operators.insert(domain.empty() ? node.op_type() : domain + ":" + node.op_type());
        const auto opset = opsets.find(domain);
        const exec::OperatorRow* row = exec::findOperator(domain, node.op_type(), opset == opsets.end() ? 1 : opset->second);
        if (row) contents.rows.insert(row);
        for (const onnx::AttributeProto& attribute : node.attribute()) {
            contents.strings |= attribute.has_t() && attribute.t().data_type() == onnx::TensorProto::STRING;
            if (attribute.has_g()) collect(attribute.g(), opsets, contents);
        }
    }
}

}  // namespace

std::vector<OperatorCase> operatorCases() {
    const char* root = std::getenv("TCOMPRESS_ONNX_CASES");
    if (!root) {
        WARN("TCOMPRESS_ONNX_CASES is not set: no case was run");
        return {};
    }
    std::vector<OperatorCase> cases;
    for (const fs::directory_entry& suite : fs::directory_iterator(root)) {
        for (const fs::directory_entry& folder : fs::directory_iterator(suite)) {
            cases.push_back({suite.path().filename().string(), folder.path().filename().string(), folder.path()});
        }
    }
    std::ranges::sort(cases, {}, &OperatorCase::folder);
    return cases;
}

onnx::ModelProto modelOf(const OperatorCase& c) { return readProto<onnx::ModelProto>(c.folder / "model.onnx"); }

bool readInputs(const OperatorCase& c, const ir::Model& model, std::map<std::string, exec::Datum>& feeds) {
    try {
        feeds = readFeeds(c.folder / "test_data_set_0", model);
    } catch (const Error&) {
        return false;
    }
    return true;
}

Contents contentsOf(const onnx::ModelProto& model) {
    std::map<std::string, std::int64_t> opsets;
    for (const onnx::OperatorSetIdProto& opset : model.opset_import()) {
        opsets[opset.domain() == "ai.onnx" ? "" : opset.domain()] = opset.version();
    }
    Contents contents;
    collect(model.graph(), opsets, contents);
    return contents;
}

std::string failureOf(const OperatorCase& c) {
    const std::string failure = run(c, exec::Fusion::none);
    if (!failure.empty()) return failure;
    const std::string fused = run(c, exec::Fusion::full);
    return fused.empty() ? fused : "with fusion: " + fused;
}

}  // namespace tcompress::test
