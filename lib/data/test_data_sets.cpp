#include <fmt/core.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "lib/data/readers.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"

namespace tcompress::data {
namespace {

/// The number in "input_12.pb" for prefix "input_" and suffix ".pb".
std::optional<int> numberIn(std::string_view text, std::string_view prefix, std::string_view suffix) {
    if (!text.starts_with(prefix) || !text.ends_with(suffix) || text.size() <= prefix.size() + suffix.size())
        return {};
    const std::string_view digits = text.substr(prefix.size(), text.size() - prefix.size() - suffix.size());
    int number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc() || end != digits.data() + digits.size()) return {};
    return number;
}

/// Entries of the folder whose name is prefix, a number, suffix; in the order of the numbers.
std::vector<std::filesystem::path> numbered(const std::filesystem::path& folder, std::string_view prefix,
                                            std::string_view suffix) {
    std::vector<std::pair<int, std::filesystem::path>> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        if (const auto number = numberIn(entry.path().filename().string(), prefix, suffix))
            found.emplace_back(*number, entry.path());
    std::sort(found.begin(), found.end());
    std::vector<std::filesystem::path> paths;
    for (auto& [number, path] : found) paths.push_back(std::move(path));
    return paths;
}

std::pair<std::string, Tensor> readTensorFile(const std::filesystem::path& path) {
    const auto file = MappedFile::open(path);
    onnx::TensorProto proto;
    if (file->bytes().size() > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
        !proto.ParseFromArray(file->bytes().data(), static_cast<int>(file->bytes().size())))
        throw DataError(
            fmt::format("{}: is no ONNX TensorProto (sequences and optionals are not read)", path.string()));
    if (proto.data_location() == onnx::TensorProto::EXTERNAL)
        throw DataError(fmt::format("{}: external data are not read in test data", path.string()));
    std::string name = proto.name().empty() ? path.stem().string() : proto.name();

    // The model reader knows every encoding of tensor data and checks the sizes.
    onnx::ModelProto model;
    model.set_ir_version(onnx::IR_VERSION);
    model.add_opset_import()->set_version(17);
    proto.set_name("data");
    *model.mutable_graph()->add_initializer() = std::move(proto);
    model.mutable_graph()->set_name("data");
    try {
        const ir::Model holder = ir::fromProto(std::move(model));
        const ir::Value* value = holder.graph().find("data");
        if (value == nullptr || value->constant() == nullptr)
            throw DataError(fmt::format("{}: holds no data", path.string()));
        return {std::move(name), *value->constant()};
    } catch (const ModelError& error) {
        throw DataError(fmt::format("{}: {}", path.string(), error.what()));
    }
}

/// Joins along the first axis.
Tensor joined(const std::vector<Tensor>& parts, const std::string& what) {
    Shape shape = parts.front().shape();
    if (shape.empty()) throw DataError(fmt::format("{}: a scalar has no axis of samples", what));
    shape[0] = 0;
    for (const Tensor& part : parts) {
        if (part.dtype() != parts.front().dtype() || part.rank() != parts.front().rank() ||
            !std::equal(shape.begin() + 1, shape.end(), part.shape().begin() + 1))
            throw DataError(fmt::format("{}: {} {} in one set, {} {} in another; sets of one shape are read",
                                        what, name(parts.front().dtype()), toString(parts.front().shape()),
                                        name(part.dtype()), toString(part.shape())));
        shape[0] += part.shape()[0];
    }
    if (parts.size() == 1) return parts.front();
    Tensor result(parts.front().dtype(), shape);
    std::byte* target = result.mutableBytes().data();
    for (const Tensor& part : parts) {
        if (part.sizeBytes() != 0) std::memcpy(target, part.bytes().data(), part.sizeBytes());
        target += part.sizeBytes();
    }
    return result;
}

}  // namespace

Arrays readTestDataSets(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> sets = numbered(folder, "test_data_set_", "");
    if (sets.empty()) sets.push_back(folder);
    std::map<std::string, std::vector<Tensor>> parts;
    for (const auto& set : sets) {
        const auto files = numbered(set, "input_", ".pb");
        if (files.empty())
            throw DataError(fmt::format("{}: no test_data_set_*/input_*.pb in this folder", set.string()));
        for (const auto& file : files) {
            auto [name, tensor] = readTensorFile(file);
            parts[name].push_back(std::move(tensor));
        }
    }
    Arrays arrays;
    for (const auto& [name, tensors] : parts) {
        const std::string what = fmt::format("{}: array '{}'", folder.string(), name);
        if (tensors.size() != sets.size())
            throw DataError(fmt::format("{}: in {} of {} sets", what, tensors.size(), sets.size()));
        arrays.emplace(name, joined(tensors, what));
    }
    return arrays;
}

}  // namespace tcompress::data
