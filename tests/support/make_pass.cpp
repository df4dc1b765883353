#include "tests/support/make_pass.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "lib/data/calibration_data.h"
#include "lib/support/error.h"
#include "passes/registry.h"

namespace tcompress::test {

std::unique_ptr<pipeline::Pass> makePass(const std::string& type, const std::string& method,
                                         const std::string& options) {
    for (const pipeline::PassInfo& info : passes::registry()) {
        if (info.type != type || info.method != method) continue;
        Diagnostics diagnostics;
        const OptionValues values =
            parseOptions(info.options, nlohmann::json::parse(options), "/passes/0", diagnostics);
        diagnostics.throwIfAny();
        auto pass = info.make(values, "/passes/0", diagnostics);
        diagnostics.throwIfAny();
        return pass;
    }
    throw ConfigError("no pass " + type + "/" + method);
}

PassResult runPass(const ir::Model& model, const std::string& type, const std::string& method,
                   const std::string& options, const data::Dataset* calibration, const ir::Model* original) {
    PassResult result{model.clone(), {}};
    std::optional<data::CalibrationData> samples;
    if (calibration != nullptr) samples.emplace(*calibration);
    pipeline::PassContext context(samples ? &*samples : nullptr, /*seed=*/42, "0", silentProgress());
    context.setOriginal(original);
    context.setInput(original);
    result.report = makePass(type, method, options)->run(result.model, context);
    return result;
}

}  // namespace tcompress::test
