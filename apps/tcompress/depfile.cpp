#include "apps/tcompress/depfile.h"

#include <vector>

#include "lib/pipeline/pipeline.h"
#include "lib/support/atomic_file.h"

namespace tcompress::cli {

namespace {

/// As Make reads file names.
std::string escaped(const std::string& path) {
    std::string text;
    for (const char c : path) {
        if (c == ' ' || c == '#' || c == '\\') text += '\\';
        if (c == '$') text += '$';
        text += c;
    }
    return text;
}

}  // namespace

void writeDepfile(const std::filesystem::path& depfile, const pipeline::Config& config,
                  const std::string& configFile) {
    std::vector<std::string> targets = {config.output};
    targets.insert(targets.end(), config.report.json.begin(), config.report.json.end());
    targets.insert(targets.end(), config.report.markdown.begin(), config.report.markdown.end());
    std::vector<std::string> inputs;
    for (const std::filesystem::path& file : pipeline::inputFiles(config)) inputs.push_back(file.string());
    if (!configFile.empty() && configFile != "-") inputs.push_back(configFile);

    std::string text;
    for (const std::string& target : targets)
        if (target != "-") text += (text.empty() ? "" : " ") + escaped(target);
    text += ":";
    for (const std::string& input : inputs) text += " \\\n  " + escaped(input);
    text += "\n";
    for (const std::string& input : inputs) text += "\n" + escaped(input) + ":\n";
    writeFileAtomically(depfile, text);
}

}  // namespace tcompress::cli
