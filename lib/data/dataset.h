#pragma once
// Samples to calibrate and evaluate on: arrays named as the model's inputs whose first axis counts samples,
// and, where there are any, labels. Files: .npz, .npy (a model of one input), a folder of ONNX
// test_data_set_* (.pb), .safetensors.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/ir/model.h"
#include "lib/tensor/tensor.h"

namespace tcompress::data {

class Dataset {
  public:
    Dataset() = default;
    Dataset(std::map<std::string, Tensor> arrays, std::optional<Tensor> labels, std::string origin);

    std::int64_t sampleCount() const { return sampleCount_; }
    /// File the samples came from (for messages and reports), or "synthetic".
    const std::string& origin() const { return origin_; }
    const std::map<std::string, Tensor>& arrays() const { return arrays_; }
    const std::optional<Tensor>& labels() const { return labels_; }

    /// Rows [begin, end) of every array, as feeds of a model.
    std::map<std::string, Tensor> rows(std::int64_t begin, std::int64_t end) const;
    /// The first `count` samples (all when there are fewer).
    Dataset head(std::int64_t count) const;

  private:
    std::map<std::string, Tensor> arrays_;
    std::optional<Tensor> labels_;
    std::string origin_;
    std::int64_t sampleCount_ = 0;
};

/// Reads a data file or folder. Throws DataError: missing, truncated, unknown format, arrays of different
/// sample counts.
Dataset readDataset(const std::filesystem::path& path);

/// Makes the dataset fit the model: integer arrays are converted to the input's integer type, arrays that are
/// no input (but labels, and arrays that other models of a family use) are dropped with a log note; an input
/// that is missing but can be derived (token_type_ids = 0; past_key_values of length 0; position_ids;
/// attention_mask = 1) is made and noted. Throws DataError naming the input, what the model wants and what
/// the file has.
Dataset fitToModel(Dataset dataset, const ir::Model& model);

/// How many samples one run of the model takes when its inputs fix the first axis (1 for most fixed exports);
/// 0 = any.
std::int64_t fixedBatchSize(const ir::Model& model);

/// Random inputs of the model's types, for latency and structural checks only, never for calibration unless
/// asked: token ids in [1, 100) and below the rows of the table they index, masks 1, positions counted,
/// floats standard normal. Dynamic dimensions: the sizes given by name, else `samples` for the first axis, 0
/// for the length of past_key_values, 64 others.
Dataset syntheticDataset(const ir::Model& model, std::int64_t samples, std::uint64_t seed,
                         const std::map<std::string, std::int64_t>& sizes = {});

/// Writes arrays as .npz (stored, not compressed, fixed time stamps: the same bytes each time), atomically.
void writeNpz(const std::filesystem::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays);

}  // namespace tcompress::data
