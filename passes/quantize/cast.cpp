// Narrow floating point: weights stored as float16, bfloat16 or float8, or the whole graph computed in
// float16.
//
//   storage   W                       →  Cast(W as float16)         computed in float32 as before
//             Gather(table, ids)      →  Cast(Gather(table as float16, ids)), rows only
//   full      every float32 value     →  float16, with a Cast behind each float32 input of the model and
//                                        before each float32 output
//
// float8 has a scale per channel (float8.h). A weight with a value outside the type's range stays float32, and
// with it what computes with it; the report names it. A single number out of range (the −3.4e38 of an
// attention mask) becomes the largest of the type. With calibration data, what overflows float16 when the model
// runs, or is lost among its subnormal numbers, stays float32 too (half_range.h).
//
// float16 rounding is IEEE 754-2008 binary16; bfloat16: Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep
// Learning Training". Not handled: models with sub-graphs (full), weights inside sub-graphs.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"
#include "passes/passes.h"
#include "passes/quantize/floating/float8.h"
#include "passes/quantize/floating/float_form.h"
#include "passes/quantize/floating/half_graph.h"
#include "lib/ir/emit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/cast";

enum class Compute { storage, full };

struct Options {
    DType dtype = DType::float16;
    Compute compute = Compute::storage;
    bool requantize = false;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .choice("dtype", &Options::dtype, {{"float16", DType::float16},
                 {"bfloat16", DType::bfloat16},
                 {"float8e4m3fn", DType::float8e4m3fn},
                 {"float8e5m2", DType::float8e5m2}},
                "the type that weights become; float8: of linear layers, convolutions and tables, with a scale "
                "per channel, opset 19")
        .choice("compute", &Options::compute, {{"storage", Compute::storage}, {"full", Compute::full}},
                "storage: weights are stored narrow and cast to float32 when the model is loaded; full: "
                "everything is computed in float16, inputs and outputs of the model keep their types")
        .option("requantize", &Options::requantize, kRequantizeHelp)
        .option("targets", &Options::targets, "weights to store narrow, by patterns (storage)")
        .option("ignore", &Options::ignore, "weights to leave alone, by patterns (storage)");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    if (options.compute == Compute::storage) return;
    if (options.dtype != DType::float16)
        diagnostics.add(pointer + "/dtype",
                        "compute full needs float16: runtimes have few operators of other narrow types");
    if (!options.targets.empty() || !options.ignore.empty())
        diagnostics.add(pointer, "compute full takes the whole graph; leave targets and ignore out");
}

/// Relative error of the rounding, or why the tensor must stay as it is.
struct Rounded {
    Tensor tensor;
    double relativeError = 0;
    std::string refusal;
};

Rounded rounded(const Tensor& constant, DType dtype) {
    Rounded result{convert(constant, dtype), 0, {}};
    const std::vector<float> after = toFloat32(result.tensor);
    const auto before = constant.data<float>();
    double lost = 0, all = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
        if (!std::isfinite(before[i])) {
            result.refusal = "its weight holds NaN or infinity";
            return result;
        }
        if (!std::isfinite(after[i])) {
            result.refusal =
                fmt::format("its value {} is outside {}, so it stays float32", before[i], name(dtype));
            return result;
        }
        const double error = static_cast<double>(after[i]) - before[i];
        lost += error * error;
        all += static_cast<double>(before[i]) * before[i];
    }
    if (all > 0) result.relativeError = std::sqrt(lost / all);
    return result;
}

class QuantizeCast : public pipeline::Pass {
  public:
    explicit QuantizeCast(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        if (options_.requantize)
            restoreToRequantize(model, context, {options_.targets, options_.ignore}, kPass, report);
        if (options_.compute == Compute::full) return castToHalf(model, context, std::move(report));
        const bool isFloat8 = bitsPerElement(options_.dtype) == 8;
        if (isFloat8) raiseOpset(model, context, report);
        const std::vector<TargetWeight> weights =
            targetWeights(context.view(model), query(), report);
        ir::Edit edit(model, kPass);
        std::set<const ir::Value*> done;
        for (const analysis::Site& site : context.view(model).sites) done.insert(site.weight);
        for (const TargetWeight& weight : weights) {
            if (isFloat8)
                storeAsFloat8(edit, weight, options_.dtype, report);
            else
                storeSite(edit, weight, report);
            releaseIfMapped(weight.constant->constant()->bytes());
        }
        // Without targets, what is no site (a grouped convolution, a table of angles) counts too.
        if (options_.targets.empty() && !isFloat8)
            for (ir::Value* value : model.graph().values())
                if (!done.contains(value)) storeOther(edit, *value, report);
        edit.commit();
        return report;
    }

  private:
    static PassReport castToHalf(ir::Model& model, const PassContext& context, PassReport before) {
        PassReport report = castGraphToHalf(model, context, kPass);
        report.notes.insert(report.notes.begin(), before.notes.begin(), before.notes.end());
        return report;
    }

    WeightQuery query() const {
        return {options_.targets, options_.ignore, WeightQuery::Tables::always, kFewestValuesToStoreNarrower,
                kFewestTableValuesToStoreNarrower};
    }

    /// For linear layers; tables need no new operator.
    void raiseOpset(ir::Model& model, const PassContext& context, PassReport& report) const {
        const std::int64_t before = model.opset();
        PassReport unused;
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query(), unused);
        if (before >= kFloat8Opset ||
            std::none_of(weights.begin(), weights.end(), [](const auto& weight) { return weight.hasLinear(); }))
            return;
        try {
            model = ir::raiseOpset(std::move(model), kFloat8Opset);
        } catch (const ModelError& problem) {
            throw PassError(fmt::format("{}: float8 weights need opset {} and the model has {}: {}", kPass,
                                        kFloat8Opset, before, problem.what()));
        }
        report.notes.push_back(
            fmt::format("opset raised from {} to {}, which float8 weights need", before, kFloat8Opset));
    }

    void storeSite(ir::Edit& edit, const TargetWeight& weight, PassReport& report) const {
        const Tensor& constant = *weight.constant->constant();
        const bool lookups = std::all_of(weight.sites.begin(), weight.sites.end(),
                                         [](const Site* site) { return site->node->is("Gather"); });
        if (!lookups && weight.hasEmbedding() && !weight.hasLinear())
            return skip(report, weight,
                        fmt::format("{} looks its rows up inside", weight.sites.front()->node->opType()));
        const Rounded narrow = rounded(constant, options_.dtype);
        if (!narrow.refusal.empty()) return skip(report, weight, narrow.refusal);
        if (lookups)
            storeTable(edit, weight, narrow.tensor);
        else
            store(edit, *weight.constant, narrow.tensor);
        for (const Site* site : weight.sites)
            report.changed.push_back(
                {site->name, fmt::format("{} stored as {}", describe(constant), name(options_.dtype)),
                 narrow.relativeError});
    }

    void storeTable(ir::Edit& edit, const TargetWeight& weight, const Tensor& narrow) const {
        const std::string& name = weight.constant->name();
        ir::Value* table = edit.addInitializer(name + "_narrow", narrow);
        for (const Site* site : weight.sites) {
            edit.replaceInput(site->node, 0, table);
            ir::Value* rows = emitCast(edit, site->output, DType::float32);
            edit.replaceAllUses(site->output, rows, {rows->producer()});
        }
    }

    static void store(ir::Edit& edit, ir::Value& constant, const Tensor& narrow) {
        ir::Value* stored = edit.addInitializer(constant.name() + "_narrow", narrow);
        edit.replaceAllUses(&constant, emitCast(edit, stored, DType::float32));
    }

    void storeOther(ir::Edit& edit, ir::Value& value, PassReport& report) const {
        const Tensor* constant = value.constant();
        if (constant == nullptr || constant->dtype() != DType::float32 ||
            constant->size() < kFewestValuesToStoreNarrower || value.uses().empty())
            return;
        for (const ir::Use& use : value.uses())
            if (use.kind != ir::UseKind::input) return;
        const Rounded narrow = rounded(*constant, options_.dtype);
        if (!narrow.refusal.empty()) {
            report.skipped.push_back({value.name(), narrow.refusal});
            return;
        }
        store(edit, value, narrow.tensor);
        report.changed.push_back({value.name(),
                                  fmt::format("{} stored as {}", describe(*constant), name(options_.dtype)),
                                  narrow.relativeError});
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo quantizeCast() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "cast";
    info.summary = "weights as float16, bfloat16 or float8, or the whole graph in float16";
    info.details =
        "Halves the file. By default weights are only stored narrow and computed with in float32, which "
        "every "
        "runtime can do; compute=full computes in float16. Values outside the type's range keep their weight "
        "float32; with calibration data, so do the parts of the graph whose values float16 cannot hold.";
    info.data = pipeline::DataNeed::optional;
    info.paper =
        "IEEE 754-2008 binary16; Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training; "
        "Micikevicius et al. 2022, FP8 Formats for Deep Learning";
    bindOptions<QuantizeCast>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkOptions));
    return info;
}

}  // namespace tcompress::passes
