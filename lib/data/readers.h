#pragma once
// The readers of the data formats. Files are hostile input: every size is checked against the file, the
// header and the machine's memory before anything of that size is allocated.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "lib/tensor/tensor.h"

namespace tcompress::data {

using Arrays = std::map<std::string, Tensor>;

/// A .npz archive: one array an entry, named without ".npy". Entries that are no .npy are skipped with a log
/// note.
Arrays readNpz(const std::filesystem::path& path);
/// One .npy array, named as the file without its extension.
Arrays readNpy(const std::filesystem::path& path);
/// A .safetensors file (github.com/huggingface/safetensors, "Format"): length, JSON header, data.
Arrays readSafetensors(const std::filesystem::path& path);
/// A folder that holds test_data_set_*/input_*.pb, or one such folder. The sets are joined along the first
/// axis.
Arrays readTestDataSets(const std::filesystem::path& folder);

/// Throws DataError when the machine's memory cannot hold `bytes`.
void requireMemoryFor(std::uint64_t bytes, const std::string& what);

}  // namespace tcompress::data
