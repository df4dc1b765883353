#include "lib/data/dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "lib/data/npy.h"
#include "lib/data/readers.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"

namespace tcompress::data {
namespace {

/// Rows [begin, end) of the first axis, sharing the bytes.
Tensor slice(const Tensor& tensor, std::int64_t begin, std::int64_t end) {
    Shape shape = tensor.shape();
    const std::size_t rowBytes = shape[0] == 0 ? 0 : tensor.sizeBytes() / static_cast<std::size_t>(shape[0]);
    shape[0] = end - begin;
    const auto& storage = tensor.storage();
    return Tensor::share(tensor.dtype(), std::move(shape),
                         {storage, storage.get() + rowBytes * static_cast<std::size_t>(begin)});
}

}  // namespace

Dataset::Dataset(std::map<std::string, Tensor> arrays, std::optional<Tensor> labels, std::string origin)
    : arrays_(std::move(arrays)), labels_(std::move(labels)), origin_(std::move(origin)) {
    if (arrays_.empty())
        throw DataError(labels_ ? fmt::format("{}: holds no arrays but 'labels'; those of the model's inputs are missing, named "
                                              "as the inputs are",
                                              origin_)
                                : fmt::format("{}: holds no arrays; give one for each input of the model, named as it is", origin_));
    const auto& [firstName, first] = *arrays_.begin();
    const auto check = [&](const std::string& name, const Tensor& tensor) {
        if (tensor.rank() == 0)
            throw DataError(
                fmt::format("{}: array '{}' is a scalar; the first axis counts samples", origin_, name));
        if (tensor.shape()[0] != first.shape()[0])
            throw DataError(fmt::format("{}: array '{}' has {} samples, '{}' has {}", origin_, name,
                                        tensor.shape()[0], firstName, first.shape()[0]));
    };
    for (const auto& [name, tensor] : arrays_) check(name, tensor);
    if (labels_) check("labels", *labels_);
    sampleCount_ = first.shape()[0];
    if (sampleCount_ == 0) throw DataError(fmt::format("{}: array '{}' has no samples", origin_, firstName));
}

std::map<std::string, Tensor> Dataset::rows(std::int64_t begin, std::int64_t end) const {
    TCOMPRESS_CHECK(0 <= begin && begin <= end && end <= sampleCount_, "rows outside the dataset");
    std::map<std::string, Tensor> feeds;
    for (const auto& [name, tensor] : arrays_) feeds.emplace(name, slice(tensor, begin, end));
    return feeds;
}

Dataset Dataset::head(std::int64_t count) const {
    if (count >= sampleCount_) return *this;
    std::optional<Tensor> labels;
    if (labels_) labels = slice(*labels_, 0, count);
    return Dataset(rows(0, count), std::move(labels), origin_);
}

Arrays readNpy(const std::filesystem::path& path) {
    const auto file = MappedFile::open(path);
    const std::shared_ptr<const std::byte> bytes(file, file->bytes().data());
    return {{path.stem().string(), npyTensor(bytes, file->bytes().size(), path.string())}};
}

Dataset readDataset(const std::filesystem::path& path) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status))
        throw DataError(fmt::format(
            "{}: no such file; give a .npz, .npy or .safetensors file, or a folder of test_data_set_*",
            path.string()));
    std::string extension = path.extension().string();
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    Arrays arrays;
    try {
        if (std::filesystem::is_directory(status)) {
            arrays = readTestDataSets(path);
        } else if (extension == ".npz") {
            arrays = readNpz(path);
        } else if (extension == ".npy") {
            arrays = readNpy(path);
        } else if (extension == ".safetensors") {
            arrays = readSafetensors(path);
        } else {
            throw DataError(fmt::format(
                "{}: format '{}' is not known; .npz, .npy, .safetensors and folders of test_data_set_* are",
                path.string(), extension));
        }
    } catch (const ModelError& fileError) {
        throw DataError(fileError.what());
    }
    std::optional<Tensor> labels;
    if (const auto found = arrays.find("labels"); found != arrays.end()) {
        labels = std::move(found->second);
        arrays.erase(found);
    }
    return Dataset(std::move(arrays), std::move(labels), path.string());
}

}  // namespace tcompress::data
