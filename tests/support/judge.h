#pragma once
// ONNX Runtime as the judge of what the tests make, through tests/python/judge.py and the Python that
// TCOMPRESS_PYTHON names (scripts/test.sh makes one). Without it tests say so and pass over their question.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::test {

/// A folder that is gone, with all it holds, when the test is over.
class ScratchFolder {
  public:
    explicit ScratchFolder(const std::filesystem::path& parent = std::filesystem::temp_directory_path());
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

/// Whether there is a judge; a Catch warning says so when there is none.
bool haveJudge();

/// What judge.py answered: 0 = yes, 1 = no, 2 = it could not say; output is its JSON, or its complaint.
struct Judgement {
    int exitCode = 2;
    std::string output;
};
Judgement askJudge(const std::vector<std::string>& arguments);

/// Outputs of ONNX Runtime, by name. Fails the test when it refuses the model.
std::map<std::string, Tensor> runInOnnxRuntime(const std::filesystem::path& model,
                                               const std::map<std::string, Tensor>& feed);

/// The file of a real model that is too large for the repository, "" when it is not there (TCOMPRESS_ZOO
/// unset, or without this file): a Catch warning says so.
std::filesystem::path zooModel(const std::string& name);

}  // namespace tcompress::test
