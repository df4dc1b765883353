#include "tests/support/judge.h"

#include <sys/wait.h>
#include <unistd.h>
#include <cstdlib>

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>

#include "lib/data/dataset.h"
#include "lib/data/readers.h"

namespace tcompress::test {
namespace {

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::string quoted(const std::string& word) {
    std::string result = "'";
    for (char c : word) {
        if (c == '\'') result += "'\\'";  // closes the quotes, a quote of its own, opens them again
        result += c;
    }
    result += "'";
    return result;
}

}  // namespace

ScratchFolder::ScratchFolder(const std::filesystem::path& parent) {
    std::string pattern = (parent / "tcompress-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) FAIL("no scratch folder at " << pattern);
    path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

bool haveJudge() {
    if (!environment("TCOMPRESS_PYTHON").empty()) return true;
    WARN("not judged by ONNX Runtime: TCOMPRESS_PYTHON is not set");
    return false;
}

Judgement askJudge(const std::vector<std::string>& arguments) {
    std::string command = quoted(environment("TCOMPRESS_PYTHON"));
    command.append(" ").append(quoted(TCOMPRESS_TEST_DATA "/../python/judge.py"));
    for (const std::string& word : arguments) command.append(" ").append(quoted(word));
    command.append(" 2>&1");
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe) FAIL("cannot start " << command);
    Judgement judgement;
    std::array<char, 4096> buffer;
    while (std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
        judgement.output.append(buffer.data(), count);
    int status = pclose(pipe);
    judgement.exitCode = WIFEXITED(status) ? WEXITSTATUS(status) : 2;
    return judgement;
}

std::map<std::string, Tensor> runInOnnxRuntime(const std::filesystem::path& model,
                                               const std::map<std::string, Tensor>& feed) {
    ScratchFolder scratch;
    const auto feedFile = scratch.path() / "feed.npz", outputFile = scratch.path() / "outputs.npz";
    data::writeNpz(feedFile, {feed.begin(), feed.end()});
    Judgement judgement = askJudge({"run", model.string(), feedFile.string(), outputFile.string()});
    INFO(judgement.output);
    REQUIRE(judgement.exitCode == 0);
    return data::readNpz(outputFile);
}

std::filesystem::path zooModel(const std::string& name) {
    std::filesystem::path path = std::filesystem::path(environment("TCOMPRESS_ZOO")) / name;
    if (!environment("TCOMPRESS_ZOO").empty() && std::filesystem::exists(path)) return path;
    WARN("not tested on " << name << ": it is not in the folder that TCOMPRESS_ZOO names");
    return {};
}

}  // namespace tcompress::test
