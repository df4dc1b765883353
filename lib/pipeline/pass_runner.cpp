#include "lib/pipeline/pass_runner.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <nlohmann/json.hpp>

#include "lib/analysis/cost.h"
#include "lib/calibration/fingerprint.h"
#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/pipeline/reproducer.h"
#include "lib/pipeline/verify_output.h"
#include "lib/report/text.h"
#include "lib/support/byte_size.h"
#include "lib/support/counted.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::pipeline {

namespace {

double secondsSince(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The skipped site that stands for most: one with the most frequent reason, up to the first name or number.
const SkippedSite& typicalSkip(const std::vector<SkippedSite>& skipped) {
    const auto kind = [](const SkippedSite& site) {
        return std::string_view(site.reason).substr(0, site.reason.find_first_of("':0123456789"));
    };
    const auto frequency = [&](const SkippedSite& site) {
        return std::count_if(skipped.begin(), skipped.end(),
                             [&](const SkippedSite& other) { return kind(other) == kind(site); });
    };
    return *std::max_element(skipped.begin(), skipped.end(), [&](const SkippedSite& a, const SkippedSite& b) {
        return frequency(a) < frequency(b);
    });
}

void requireChange(const PassReport& done, const PassStep& step, const Config& config) {
    if (!done.changed.empty() || step.allowEmpty || config.allowEmpty || step.info->idleIsFine) return;
    std::string why = "no site of the model is one it could work on";
    if (!done.skipped.empty()) {
        const SkippedSite& example = typicalSkip(done.skipped);
        why = fmt::format("{} skipped, for example {}: {}", counted(done.skipped.size(), "site"),
                          example.site, example.reason);
    }
    throw PassError(
        fmt::format("nothing was changed ({}); take the pass out, or give --allow-empty or \"allow_empty\": true", why));
}

report::PassRow makeRow(const PassStep& step, PassReport done) {
    report::PassRow row;
    row.type = step.info->type;
    row.method = step.info->method;
    row.optionsJson = optionJson(step.info->options, step.options).dump();
    for (ChangedSite& site : done.changed)
        row.changed.push_back({std::move(site.site), std::move(site.change),
                               site.error < 0 ? std::nullopt : std::optional<double>(site.error)});
    for (SkippedSite& site : done.skipped)
        row.skipped.push_back({std::move(site.site), std::move(site.reason)});
    row.notes = std::move(done.notes);
    return row;
}

/// "pass 2 of 3 (prune/neuron)".
std::string placeOf(const Config& config, std::size_t index) {
    return fmt::format("pass {} of {} ({})", index + 1, config.passes.size(), config.passes[index].name());
}

/// Calls `run` and puts the pass's place in front of what it throws, keeping the exception's class. What no
/// option or data can be blamed for is handed to `onBug` first.
template <class Run, class OnBug>
auto withPassName(const Config& config, std::size_t index, Run run, OnBug onBug) {
    const auto named = [&](const std::exception& error) {
        std::string text = error.what();
        // Passes name themselves; once is enough.
        for (const std::string& own :
             {config.passes[index].name() + ": ", config.passes[index].info->type + ": "})
            if (text.starts_with(own)) text.erase(0, own.size());
        return fmt::format("{}: {}", placeOf(config, index), text);
    };
    try {
        return run();
    } catch (const Cancelled&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw;  // no bug, and no time to write another copy of the model
    } catch (const ConfigError& error) {
        throw ConfigError(named(error));
    } catch (const DataError& error) {
        throw DataError(named(error));
    } catch (const PassError& error) {
        throw PassError(named(error));
    } catch (const KernelError& error) {
        throw KernelError(named(error));
    } catch (const ModelError& error) {
        onBug(named(error));
        throw ModelError(named(error));
    } catch (const std::exception& error) {
        onBug(named(error));
        throw InternalError(named(error));
    }
}

/// Those on a single site, whose name they begin with in quotes, are many on a large model.
void tellNotes(const std::string& pass, const std::vector<std::string>& notes) {
    std::size_t ofSites = 0;
    for (const std::string& note : notes) {
        const bool isOfSite = note.starts_with('\'');
        ofSites += isOfSite ? 1 : 0;
        if (isOfSite)
            log::debug("{}: {}", pass, note);
        else
            log::info("{}: {}", pass, note);
    }
    if (ofSites > 0) log::info("{}: {} on single sites: -v prints them, the report has them", pass, counted(ofSites, "note"));
}

}  // namespace

PassRunner::PassRunner(const Config& config, const data::CalibrationData* calibration,
                       PassRunnerOptions options, Progress& progress)
    : config_(config), calibration_(calibration), options_(std::move(options)), progress_(progress) {}

PassReport PassRunner::runChecked(ir::Model& model, std::size_t index) const {
    const PassStep& step = config_.passes[index];
    const std::uint64_t revision = model.revision();
    const calibration::Resources resources{parseByteSize(config_.memoryLimit).value(), config_.cacheDir,
                                            std::make_shared<calibration::Fingerprints>()};
    PassContext context(calibration_, static_cast<std::uint64_t>(config_.seed), std::to_string(index),
                        progress_, views_, resources);
    context.setOriginal(reference_ ? &*reference_ : options_.original);
    context.setInput(options_.original);
    PassReport done = step.pass->run(model, context);
    progress_.step(0);
    requireChange(done, step, config_);
    if (model.revision() == revision) return done;
    ir::inferTypes(model);
    ir::validateStructure(model);
    if (config_.checkNumerics && exec::unsupportedOperators(model).empty())
        if (const std::string problem = trialRunProblem(model); !problem.empty())
            throw ModelError(fmt::format("afterwards {}", problem));
    return done;
}

report::PassRow PassRunner::run(ir::Model& model, std::size_t index) {
    const PassStep& step = config_.passes[index];
    const std::string name = placeOf(config_, index);
    log::debug("{}: starts", name);
    views_->forget();
    const std::optional<report::Totals> before = totals(model);
    const std::uint64_t bytesBefore = model.constantBytes();
    ir::Model backup = model.clone();

    const auto start = std::chrono::steady_clock::now();
    PassReport done;
    try {
        done = withPassName(
            config_, index, [&] { return runChecked(model, index); },
            [&](const std::string& failure) {
                if (options_.reproducerFolder.empty()) return;
                if (writeReproducer(options_.reproducerFolder, backup, config_, index, failure,
                                    options_.commandLine))
                    log::error("a reproducer was written to {}", options_.reproducerFolder.string());
            });
    } catch (...) {
        model = std::move(backup);
        throw;
    }
    if (step.info->movesValues) reference_ = model.clone();
    report::PassRow row = makeRow(step, std::move(done));
    row.seconds = secondsSince(start);
    row.before = before;
    row.after = totals(model);
    log::info("{}: {} changed, {} skipped, {} -> {} of weights, {:.2f} s", name, row.changed.size(),
              row.skipped.size(), report::bytesText(bytesBefore), report::bytesText(model.constantBytes()),
              row.seconds);
    tellNotes(name, row.notes);
    for (const report::ChangedSite& site : row.changed)
        log::debug("{}: {}: {}", name, site.site, site.change);
    for (const report::SkippedSite& site : row.skipped)
        log::debug("{}: {}: skipped: {}", name, site.site, site.reason);
    dump(model, index);
    return row;
}

void PassRunner::dump(const ir::Model& model, std::size_t index) const {
    if (options_.dumpFolder.empty()) return;
    std::filesystem::create_directories(options_.dumpFolder);
    std::string name = config_.passes[index].name();
    for (char& c : name)
        if (c == '/') c = '-';
    ir::save(model, options_.dumpFolder / fmt::format("{:02}-{}.onnx", index + 1, name));
}

std::optional<report::Totals> PassRunner::totals(const ir::Model& model) const {
    if (options_.totals == RowTotals::skip) return std::nullopt;
    const analysis::ModelCost cost = analysis::cost(model, views_->view(model));
    return report::Totals{cost.bytes, cost.parameters, cost.macs};
}

}  // namespace tcompress::pipeline
