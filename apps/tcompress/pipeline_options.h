#pragma once
// The options by which a command line names a pipeline and its settings, and the ConfigSources they make. A
// setting is only passed on here: its type and range are those of the pipeline file
// (lib/pipeline/config_tables.h).

#include <optional>
#include <string>
#include <vector>

#include "apps/tcompress/option_list.h"
#include "lib/pipeline/config.h"

namespace tcompress::cli {

class PipelineOptions {
  public:
    /// -c, --preset, -p, --set.
    void addPipeline(OptionList& options);
    /// --calibration, --evaluation and how many samples of them.
    void addData(OptionList& options);
    /// --report and what goes into it.
    void addReport(OptionList& options);
    /// --seed, constraints, --check-numerics …
    void addSettings(OptionList& options);

    /// A value for one place of the pipeline file, called `label` in messages.
    void set(std::string pointer, std::string valueJson, std::string label);

    bool namesPipeline() const { return !configFile_.empty() || !preset_.empty() || !passes_.empty(); }
    const std::string& configFile() const { return configFile_; }
    /// Reads the pipeline file. Throws ConfigError.
    pipeline::ConfigSources sources() const;

  private:
    /// An option whose text goes to `pointer` as it is.
    void addText(OptionList& options, const std::string& name, const std::string& placeholder,
                 const std::string& pointer, const std::string& help);
    OptionDeclaration& addFlag(OptionList& options, const std::string& name, const std::string& pointer,
                               const std::string& valueJson, const std::string& help);
    void addReportFile(const std::string& file);
    void addAssignment(const std::string& text);

    std::string configFile_;
    std::string preset_;
    std::vector<std::string> passes_;
    std::vector<std::string> jsonReports_, markdownReports_;
    std::vector<pipeline::Override> overrides_;
};

}  // namespace tcompress::cli
