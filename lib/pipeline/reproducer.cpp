#include "lib/pipeline/reproducer.h"

#include <fmt/core.h>

#include "lib/ir/save.h"
#include "lib/support/atomic_file.h"
#include "lib/support/log.h"

namespace tcompress::pipeline {

namespace {

namespace fs = std::filesystem;

std::string absoluteOrEmpty(const std::string& file) {
    return file.empty() ? file : fs::absolute(file).string();
}

void write(const fs::path& folder, const ir::Model& before, const Config& config, std::size_t stepIndex,
           const std::string& failure, const std::string& commandLine) {
    fs::create_directories(folder);
    // The model may be what the failure is about, so it is not checked.
    ir::SaveOptions unchecked;
    unchecked.check = false;
    ir::save(before, folder / "model.onnx", unchecked);

    Config single = config;
    single.passes = {config.passes[stepIndex]};
    single.model = "model.onnx";
    single.output = "out.onnx";
    single.calibration.file = absoluteOrEmpty(config.calibration.file);
    single.cacheDir = absoluteOrEmpty(config.cacheDir);
    single.evaluation = {};
    single.constraints = {};
    single.report = {};
    writeFileAtomically(folder / "pipeline.json", configJson(single));
    writeFileAtomically(
        folder / "README.txt",
        fmt::format(
            "tcompress {}\npass {} of {}: {}\nfailure: {}\ncommand: {}\nreplay: tcompress run -c {}\n",
            TCOMPRESS_VERSION, stepIndex + 1, config.passes.size(), config.passes[stepIndex].name(), failure,
            commandLine, (folder / "pipeline.json").string()));
}

}  // namespace

bool writeReproducer(const fs::path& folder, const ir::Model& before, const Config& config,
                     std::size_t stepIndex, const std::string& failure,
                     const std::string& commandLine) noexcept {
    try {
        write(folder, before, config, stepIndex, failure, commandLine);
        return true;
    } catch (const std::exception& error) {
        log::warning("the reproducer {} could not be written: {}", folder.string(), error.what());
        return false;
    }
}

}  // namespace tcompress::pipeline
