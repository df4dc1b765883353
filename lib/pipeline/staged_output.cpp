#include "lib/pipeline/staged_output.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <system_error>
#include <vector>

#include "lib/support/error.h"

namespace tcompress::pipeline {

namespace {

namespace fs = std::filesystem;

/// Files of the one staging folder there is at a time, in fixed storage for the signal handler: model,
/// external data, folder.
std::array<std::array<char, PATH_MAX>, 3> stagedPaths;
std::atomic<bool> staged{false};

void remember(const fs::path& model, const fs::path& folder) {
    fs::path data = model;
    data += ".data";
    const std::array<std::string, 3> texts = {model.string(), data.string(), folder.string()};
    for (std::size_t i = 0; i < texts.size(); ++i) {
        if (texts[i].size() >= PATH_MAX) return;
        std::memcpy(stagedPaths[i].data(), texts[i].c_str(), texts[i].size() + 1);
    }
    staged.store(true);
}

fs::path parentOf(const fs::path& file) {
    return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

void copyToStandardOutput(const fs::path& file) {
    std::ifstream source(file, std::ios::binary);
    // By hand: a stream that inserts another one's buffer does not tell when it could write but a part of it.
    std::vector<char> piece(std::size_t{1} << 20);
    do {
        source.read(piece.data(), std::ssize(piece));
        std::cout.write(piece.data(), source.gcount());
    } while (source && std::cout);
    std::cout.flush();
    if (!source.eof() || !std::cout) throw Error("cannot write the whole model to standard output; is its reader gone, or the disk full?");
}

}  // namespace

StagedOutput::StagedOutput(fs::path target) : target_(std::move(target)) {
    const fs::path parent = target_ == "-" ? fs::temp_directory_path() : parentOf(target_);
    const std::string name = target_ == "-" ? "model.onnx" : target_.filename().string();
    std::string pattern = (parent / fmt::format(".{}.tcompress-XXXXXX", name)).string();
    if (::mkdtemp(pattern.data()) == nullptr)
        throw Error(fmt::format("cannot write {}: {}", target_.string(), std::strerror(errno)));
    folder_ = pattern;
    path_ = folder_ / name;
    remember(path_, folder_);
}

StagedOutput::~StagedOutput() {
    staged.store(false);
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
}

void StagedOutput::commit(const std::vector<fs::path>& files) {
    if (target_ == "-") {
        if (files.size() > 1)
            throw Error(
                "a model with external data cannot be written to standard output; name an output file");
        copyToStandardOutput(path_);
        return;
    }
    const fs::path parent = parentOf(target_);
    for (const fs::path& file : files)
        if (file.filename() != path_.filename()) fs::rename(file, parent / file.filename());
    fs::rename(path_, target_);
}

void removeStagedOutput() noexcept {
    if (!staged.load()) return;
    ::unlink(stagedPaths[0].data());
    ::unlink(stagedPaths[1].data());
    ::rmdir(stagedPaths[2].data());
}

namespace {

bool areOneFile(const fs::path& a, const fs::path& b) {
    std::error_code error;
    // Of files that are not there yet, the names tell.
    const auto name = [&](const fs::path& file) { return fs::weakly_canonical(fs::absolute(file, error), error); };
    return fs::equivalent(a, b, error) || name(a) == name(b);
}

}  // namespace

void checkOutput(const fs::path& output, const std::vector<fs::path>& inputs, InputOverwrite overwrite) {
    if (output == "-") return;
    std::error_code error;
    const fs::path parent = parentOf(output);
    if (!fs::is_directory(parent, error))
        throw ConfigError(
            fmt::format("{}: the folder {} does not exist; make it first", output.string(), parent.string()));
    if (fs::is_directory(output, error))
        throw ConfigError(fmt::format("{}: is a folder; name a file to write", output.string()));
    // A rename would put a file in the place of the device.
    if (fs::exists(output, error) && !fs::is_regular_file(output, error))
        throw ConfigError(
            fmt::format("{}: is no regular file; name another, or - for standard output", output.string()));
    if (::access(parent.c_str(), W_OK | X_OK) != 0)
        throw ConfigError(fmt::format("{}: cannot be written: {}; choose another folder", output.string(),
                                      std::strerror(errno)));
    if (overwrite == InputOverwrite::allow) return;
    for (const fs::path& input : inputs)
        if (!input.empty() && input != "-" && areOneFile(output, input))
            throw ConfigError(fmt::format("{}: is a file that this run reads or writes already; name another{}",
                                          output.string(),
                                          overwrite == InputOverwrite::refuse ? ", or give --force" : ""));
}

}  // namespace tcompress::pipeline
