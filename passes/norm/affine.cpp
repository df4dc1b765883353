// Group and instance normalizations become a scale and a shift a channel, which a convolution in front of them takes in:
//
//   y = γ ∘ (x − mean of the group)/√(its variance + ε) + β   →   y = a ∘ x + b
//
// a and b are least squares on calibration data of what the normalization gave in the original model, channel by channel, one
// normalization after another in the order of the graph on the model as edited so far. One whose output on held-back samples is too
// far off stays: what varies from picture to picture is lost, so it is a replacement for statistics that hardly vary.
// A group normalization may be one operator or, as PyTorch exports it, an InstanceNormalization between two reshapes with a gain
// and a bias behind. Source: the inference form of batch normalization (Ioffe and Szegedy 2015), with statistics of the data.
// Not handled: normalizations whose size between the channel axis and the last one is not fixed, other types than float32.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "lib/analysis/targets.h"
#include "lib/calibration/collector.h"
#include "passes/passes.h"
#include "passes/support/affine_refit.h"
#include "passes/support/compensation.h"
#include "lib/ir/emit.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "norm/affine";
constexpr std::size_t kChannelAxis = 1;

struct Options {
    double maxError = 0.2;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("max_error", &Options::maxError,
                "largest relative error of what takes a normalization's place, on held-back samples; one that is "
                "further off stays")
        .range(0, 1)
        .option("targets", &Options::targets,
                "normalizations to replace, by globs over their nodes' names; left out: all")
        .option("ignore", &Options::ignore, "normalizations to leave alone, by globs over their nodes' names");
    return table;
}

/// What is replaced: everything between two values [N, C, …] of one shape.
struct GroupNorm {
    const ir::Node* node = nullptr;
    const ir::Value* input = nullptr;
    const ir::Value* output = nullptr;
    std::int64_t channels = 0;
    std::int64_t rowsOfChannel = 1;  ///< see ChannelLines
    std::string refusal;
};

/// The only reader of a value; null when there are others.
const ir::Node* onlyReader(const ir::Value& value) {
    const bool single =
        value.uses().size() == 1 && value.uses().front().kind == ir::UseKind::input && !value.isGraphOutput();
    return single ? value.uses().front().node : nullptr;
}

/// A constant with one number a channel of [N, C, …], or one number.
bool isPerChannel(const ir::Value* value, std::int64_t channels) {
    const Tensor* constant = value == nullptr ? nullptr : value->constant();
    if (constant == nullptr || constant->dtype() != DType::float32) return false;
    return constant->size() == 1 || constant->size() == channels;
}

/// Behind a normalization: products and sums with constants of the channels belong to it.
const ir::Value* behindAffine(const ir::Value* value, std::int64_t channels) {
    for (const char* type : {"Mul", "Add"}) {
        const ir::Node* next = onlyReader(*value);
        if (next == nullptr || !next->is(type)) continue;
        const ir::Value* other = next->input(0) == value ? next->input(1) : next->input(0);
        if (isPerChannel(other, channels)) value = next->output();
    }
    return value;
}

/// Whether two shapes cannot be one, whatever their unknown dimensions turn out to be.
bool differ(const Shape& a, const Shape& b) {
    const auto alike = [](std::int64_t x, std::int64_t y) { return x == y || x < 0 || y < 0; };
    return !std::equal(a.begin(), a.end(), b.begin(), b.end(), alike);
}

std::optional<GroupNorm> groupNorm(const ir::Node& node) {
    GroupNorm norm{&node, node.inputs().empty() ? nullptr : node.input(0), node.output(), 0, 1, {}};
    if (node.is("InstanceNormalization")) {
        // PyTorch's group normalization: [N, C, …] → [N, groups, −1] → normalized → [N, C, …].
        const ir::Node *before = node.input(0)->producer(), *after = onlyReader(*node.output());
        if (before != nullptr && before->is("Reshape") && after != nullptr && after->is("Reshape")) {
            norm.input = before->input(0);
            norm.output = after->output();
        }
    } else if (!node.is("GroupNormalization")) {
        return std::nullopt;
    }
    const auto shape = norm.input->shape();
    if (!shape || shape->size() < 3 || (*shape)[kChannelAxis] < 0) {
        norm.refusal = "the number of its channels is not fixed";
        return norm;
    }
    if (norm.input->dtype() != DType::float32) norm.refusal = "it is not float32";
    norm.channels = (*shape)[kChannelAxis];
    for (std::size_t axis = kChannelAxis + 1; axis + 1 < shape->size(); ++axis) {
        if ((*shape)[axis] < 0) norm.refusal = "the size behind its channels is not fixed";
        norm.rowsOfChannel *= (*shape)[axis];
    }
    if (norm.output != node.output() || node.is("GroupNormalization"))
        norm.output = behindAffine(norm.output, norm.channels);
    if (const auto result = norm.output->shape(); result && differ(*shape, *result))
        norm.refusal = "its input and output differ in shape";
    return norm;
}

class AffineNorms : public pipeline::Pass {
  public:
    explicit AffineNorms(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const data::Split samples = context.calibrationSplit(
            kPass, "scales and shifts are fitted to what the normalizations give", kHeldBackShare);
        const data::Dataset& judges = allJudgesOf(samples);
        const ir::Model reference = model.clone();
        PassReport report;
        for (const auto& node : reference.graph().nodes()) {
            const std::optional<GroupNorm> norm = groupNorm(*node);
            if (!norm || !analysis::globsSelect(options_.targets, options_.ignore, node->label())) continue;
            if (!norm->refusal.empty()) {
                report.skipped.push_back({node->label(), norm->refusal});
                continue;
            }
            const ir::Value* const input = model.graph().find(norm->input->name());
            if (input == nullptr) {
                report.skipped.push_back({node->label(), "it reads what was replaced just now"});
                continue;
            }
            const auto lines = [&](const data::Dataset& dataset) {
                calibration::Collector collector(reference, model);
                auto& sums = collector.add<ChannelLines>(calibration::Source(input),
                                                         calibration::Source(norm->output, calibration::Side::original),
                                                         norm->channels, norm->rowsOfChannel);
                context.collect(collector, dataset);
                return sums;
            };
            const ChannelLines fitted = lines(samples.fit);
            std::vector<ChannelLines::Line> line;
            for (std::int64_t c = 0; c < norm->channels; ++c)
                line.push_back(fitted.line(static_cast<std::size_t>(c), ChannelLines::Offset::fitted));
            const double error = std::sqrt(lines(judges).relativeSquaredError(line));
            if (!(error <= options_.maxError)) {
                report.skipped.push_back(
                    {node->label(),
                     fmt::format("a scale and a shift would be {:.4f} off (max_error {})", error, options_.maxError)});
                continue;
            }
            replace(model, *norm, line);
            report.changed.push_back(
                {node->label(), fmt::format("{} to a scale and a shift of {} channels", node->opType(), norm->channels),
                 error});
        }
        return report;
    }

  private:
    static void replace(ir::Model& model, const GroupNorm& norm, const std::vector<ChannelLines::Line>& lines) {
        Shape shape(norm.input->shape()->size() - kChannelAxis, 1);
        shape.front() = norm.channels;
        Tensor scale(DType::float32, shape), shift(DType::float32, shape);
        for (std::size_t c = 0; c < lines.size(); ++c) {
            scale.mutableData<float>()[c] = static_cast<float>(lines[c].slope);
            shift.mutableData<float>()[c] = static_cast<float>(lines[c].offset);
        }
        ir::Edit edit(model, kPass);
        ir::Value* const scaled =
            emit(edit, "Mul", {model.graph().find(norm.input->name()), edit.addInitializer("scale", scale)}, {},
                 norm.node->label());
        edit.replaceAllUses(model.graph().find(norm.output->name()),
                            emit(edit, "Add", {scaled, edit.addInitializer("shift", shift)}));
        edit.commit();
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo affineNorms() {
    pipeline::PassInfo info;
    info.type = "norm";
    info.method = "affine";
    info.summary = "group and instance normalizations become a scale and a shift a channel, fitted on calibration data";
    info.details =
        "Least squares of what each normalization gave, channel by channel, in the order of the graph; one that is "
        "further off than "
        "max_error on held-back samples stays. What varies from sample to sample is lost: for normalizations whose "
        "statistics hardly "
        "do.";
    info.data = pipeline::DataNeed::always;
    bindOptions<AffineNorms>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
