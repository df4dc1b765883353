// tcompress sensitivity: what rounding each weight does to the model's outputs, weight by weight and bits by
// bits.

#include <fmt/core.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/tcompress/command.h"
#include "apps/tcompress/tables.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "passes/quantize/mixed/sensitivity.h"

namespace tcompress::cli {

namespace {

struct Options {
    std::string model, data;
    std::vector<std::string> bits, targets, ignore;
    std::int64_t groupSize = 64;
    std::int64_t samples = 32;
    bool json = false;
};

std::string asJson(const std::vector<passes::WeightSensitivity>& weights) {
    nlohmann::json list = nlohmann::json::array();
    for (const passes::WeightSensitivity& weight : weights) {
        nlohmann::json entry{{"site", weight.site}, {"role", weight.role}, {"weights", weight.weights}};
        for (const auto& damage : weight.damages)
            entry["damages"].push_back(
                {{"bits", damage.bits}, {"bytes", damage.bytes}, {"damage", damage.damage}});
        list.push_back(std::move(entry));
    }
    return list.dump(2) + "\n";
}

std::string asTable(const std::vector<passes::WeightSensitivity>& weights,
                    const std::vector<std::int64_t>& bits) {
    std::vector<std::vector<std::string>> rows{{"site", "role", "weights"}};
    std::vector<Align> columns{Align::left, Align::left, Align::right};
    for (const std::int64_t count : bits) {
        rows.front().push_back(fmt::format("{} bits", count));
        columns.push_back(Align::right);
    }
    for (const passes::WeightSensitivity& weight : weights) {
        std::vector<std::string> row{weight.site, weight.role, shortCount(weight.weights)};
        for (const std::int64_t count : bits) {
            std::string cell = "-";
            for (const auto& damage : weight.damages)
                if (damage.bits == count) cell = fmt::format("{:.2e}", damage.damage);
            row.push_back(std::move(cell));
        }
        rows.push_back(std::move(row));
    }
    return renderTable(rows, columns) +
           "\nsquared error of the model's outputs, relative to their square, with this weight alone rounded\n";
}

ExitCode execute(const Options& options, const Session& session) {
    passes::SensitivityRequest request;
    request.groupSize = options.groupSize;
    request.targets = options.targets;
    request.ignore = options.ignore;
    if (!options.bits.empty()) request.bits.clear();
    for (const std::string& text : options.bits) {
        const std::string allowed = "2 3 4 5 6 8";
        if (text.size() != 1 || allowed.find(text) == std::string::npos)
            throw ConfigError(fmt::format("--bits: must be one of 8, 6, 5, 4, 3 and 2, not '{}'", text));
        request.bits.push_back(text[0] - '0');
    }
    const ir::Model model = ir::load(options.model);
    data::Dataset dataset = data::readDataset(options.data);
    if (options.samples > 0) dataset = dataset.head(options.samples);
    const auto weights = passes::measureSensitivity(model, dataset, request, *session.progress);
    if (weights.empty())
        throw PassError(fmt::format("{}: no weight that could be rounded; `tcompress run MODEL -p quantize -v` says why", options.model));
    std::cout << (options.json ? asJson(weights) : asTable(weights, request.bits));
    return ExitCode::done;
}

}  // namespace

Command sensitivityCommand() {
    auto options = std::make_shared<Options>();
    Command command{"sensitivity", "measure what rounding each weight does to the model's outputs", {}, {}};
    OptionList& list = command.options;
    list.positional("MODEL", options->model, Presence::required, "ONNX file");
    list.value("-d,--data", "FILE", options->data, "samples (.npz)").presence = Presence::required;
    list.values("--bits", "N", options->bits, "bits to try: 8, 6, 5, 4, 3 or 2; left out: all of them");
    list.integer("--group-size", "N", options->groupSize, {-1, 4096},
                 "weights that share a scale, -1 for one scale an output channel");
    list.integer("--samples", "N", options->samples, {0, std::int64_t{1} << 40},
                 "use at most so many samples, 0 for all");
    list.values("--targets", "PATTERN", options->targets, "weights to look at, as in a pass; left out: all");
    list.values("--ignore", "PATTERN", options->ignore, "weights to leave out");
    list.flag("--json", options->json, "print JSON instead of a table");
    command.action = [options](Session& session) { return execute(*options, session); };
    return command;
}

}  // namespace tcompress::cli
