#pragma once
// What a pass is: immutable, built from validated options, with one job. The pipeline does the chores around
// it: a pass runs on a copy of the model that only takes the model's place when the pass returns, so a pass
// that throws changes nothing.

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/calibration/resources.h"
#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "lib/support/option_set.h"
#include "lib/support/progress.h"
#include "lib/support/random.h"

namespace tcompress::calibration {
class Collector;
class Stream;
struct Cut;
}  // namespace tcompress::calibration
namespace tcompress::data {
class CalibrationData;
struct Split;
}

namespace tcompress::pipeline {

/// A site that a pass changed: what it was and what it is now, in words ("12 heads to 6", "float32 [384,
/// 1536] to int8").
struct ChangedSite {
    std::string site;
    std::string change;
    /// Relative error of the site's weights or outputs, where the pass measured it; negative = not measured.
    double error = -1;
};
/// A site that the targets name and the pass left alone, and why.
struct SkippedSite {
    std::string site;
    std::string reason;
};

struct PassReport {
    std::vector<ChangedSite> changed;
    std::vector<SkippedSite> skipped;
    std::vector<std::string> notes;
};

/// The recognised model, made once per revision of a graph: passes and the report's rows share it. A view
/// stays alive until forget(), so that a pass may hold on to the one from before its edit (its pointers into
/// the model are stale then).
class ViewCache {
  public:
    const analysis::TransformerView& view(const ir::Model& model);
    /// Frees every view but the newest.
    void forget();

  private:
    std::vector<std::unique_ptr<analysis::TransformerView>> views_;
    const ir::Graph* newestGraph_ = nullptr;
    std::uint64_t newestRevision_ = 0;
};

/// What the pipeline offers to a pass.
class PassContext {
  public:
    PassContext(const data::CalibrationData* calibration, std::uint64_t seed, std::string position,
                Progress& progress);
    /// With views shared between passes.
    PassContext(const data::CalibrationData* calibration, std::uint64_t seed, std::string position,
                Progress& progress, std::shared_ptr<ViewCache> views, calibration::Resources resources = {});

    /// Calibration samples fitted to the model, made ones included where they are asked for. When there are none throws PassError: "PASS: WHY; give
    /// calibration data with …" (why = what the pass needs them for, a main clause).
    const data::Dataset& calibration(std::string_view pass, std::string_view why) const;
    /// The samples as they were given: what counts how often something occurs must not count made ones.
    const data::Dataset& givenCalibration(std::string_view pass, std::string_view why) const;
    bool hasCalibration() const { return calibration_ != nullptr; }
    /// The same with a share of the samples held back, to choose between solutions by.
    data::Split calibrationSplit(std::string_view pass, std::string_view why, double heldBackShare) const;
    /// Runs the collector over samples, with the run's progress and statistics cache.
    void collect(calibration::Collector& collector, const data::Dataset& samples) const;
    /// For passes that go block by block, each on what the edited blocks before it give: see lib/calibration/stream.h.
    calibration::Stream stream(const ir::Model& model, const data::Dataset& samples) const;
    calibration::Stream stream(const ir::Model& original, const ir::Model& edited,
                               const data::Dataset& samples) const;
    void collect(calibration::Collector& collector, calibration::Stream& stream) const;
    void advance(calibration::Stream& stream, const calibration::Cut& cut) const;
    /// What calibration may use of the machine.
    const calibration::Resources& resources() const { return resources_; }
    /// The same with the run's progress, for what collects by itself.
    calibration::Environment environment() const { return {progress_, resources_}; }
    /// The recognised model; made once per revision.
    const analysis::TransformerView& view(const ir::Model& model) const;
    /// A random stream of its own for each purpose: depends on the seed, the pass's position and the name.
    Random random(std::string_view purpose) const;
    Progress& progress() const { return progress_; }
    /// The model that the run started from, before all passes (or behind one that moves values, see
    /// PassInfo::movesValues); null when there is none (a pass run alone). It may have lost values or have others
    /// of the same name and another shape.
    const ir::Model* original() const { return original_; }
    void setOriginal(const ir::Model* original) { original_ = original; }
    /// The model that the run started from, whatever passes before did to what values hold: for its outputs. Null when
    /// there is none.
    const ir::Model* input() const { return input_; }
    void setInput(const ir::Model* input) { input_ = input; }

  private:
    const ir::Model* original_ = nullptr;
    const ir::Model* input_ = nullptr;
    const data::CalibrationData* calibration_;
    std::uint64_t seed_;
    std::string position_;
    Progress& progress_;
    std::shared_ptr<ViewCache> views_;
    calibration::Resources resources_;
};

class Pass {
  public:
    virtual ~Pass() = default;
    /// Changes the model. A site that cannot be done is a SkippedSite; PassError when the request as a whole
    /// cannot.
    virtual PassReport run(ir::Model& model, const PassContext& context) const = 0;
};

/// Whether a pass needs calibration data.
enum class DataNeed { never, optional, always };

/// One (family, method) pair: "quantize" / "dynamic". Listed in passes/registry.cpp.
struct PassInfo {
    std::string type;     ///< family: prune, quantize, low-rank, drop-layers, remove-heads, cleanup …
    std::string method;   ///< "" when the family has one method
    std::string summary;  ///< one line for `tcompress passes`
    std::string details;  ///< a paragraph: what it does, what it does not handle
    std::string paper;    ///< source; empty when there is none
    DataNeed data = DataNeed::never;
    /// The method taken when a config names only the type.
    bool defaultMethod = false;
    /// Finding nothing to change is no error: a pass that tidies up what others may have left.
    bool idleIsFine = false;
    /// What the model computes stays, what its values hold does not: later passes compare with this pass's result, not
    /// with the model that the run started from.
    bool movesValues = false;
    std::vector<OptionSpec> options;
    /// Builds the pass from checked values (in the order of `options`); adds diagnostics for combinations
    /// that cannot be.
    std::function<std::unique_ptr<Pass>(const OptionValues&, const std::string& pointer, Diagnostics&)> make;
};

/// The usual way to fill PassInfo::options and make from an OptionTable and a Pass class with a constructor
/// P(Options).
template <class P, class Options>
void bindOptions(PassInfo& info, OptionTable<Options> table) {
    info.options = table.specs();
    info.make = [table = std::move(table)](const OptionValues& values, const std::string&, Diagnostics&) {
        return std::make_unique<P>(table.fill(values));
    };
}
/// The same with a check of option combinations.
template <class P, class Options>
void bindOptions(PassInfo& info, OptionTable<Options> table,
                 std::function<void(const Options&, const std::string& pointer, Diagnostics&)> check) {
    info.options = table.specs();
    info.make = [table = std::move(table), check = std::move(check)](
                    const OptionValues& values, const std::string& pointer,
                    Diagnostics& diagnostics) -> std::unique_ptr<Pass> {
        Options options = table.fill(values);
        check(options, pointer, diagnostics);
        return std::make_unique<P>(std::move(options));
    };
}

}  // namespace tcompress::pipeline
