// Weights as numbers of codebook entries, where evenly spaced levels fit them badly: bell-shaped weights, few
// bits, or pieces of weights that go together (codebook_matrix.h: which codebooks; codebook_storage.h: how
// they are decoded).
//
//   MatMul(x, W)        →  MatMul(x, Gather(codebook, numbers) · scales)
//   Gather(table, ids)  →  Gather(codebook, Gather(numbers, ids)) · Gather(scales, ids)
//
// With calibration data k-means weighs each weight by the mean square of what it is multiplied with, all
// numbers are chosen with error feedback (error_feedback.h), and a constant behind a layer takes up the mean
// of its error: then squares are about the mean.
//
// Source: Dettmers et al. 2023, "QLoRA" (normal floats); Miyashita et al. 2016, "Convolutional Neural Networks
// using Logarithmic Data Representation"; Kim et al. 2023, "SqueezeLLM" (sensitivity-weighted k-means); van
// Baalen et al. 2024, "GPTVQ", and Egiazarian et al. 2024, "AQLM" (vectors).
//
// Not handled: convolutions; tables with a codebook a channel (k-means); channels that are no whole number of
// pieces.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "lib/calibration/channel_statistics.h"
#include "lib/ir/edit.h"
#include "lib/support/mapped_file.h"
#include "passes/passes.h"
#include "passes/quantize/codebook_storage.h"
#include "passes/quantize/float_form.h"
#include "passes/quantize/layer_evidence.h"
#include "passes/quantize/levels.h"
#include "passes/quantize/output_error.h"
#include "passes/quantize/quantized_table.h"
#include "passes/support/emit.h"

namespace tcompress::passes {
namespace {

using calibration::ChannelStatistics;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/codebook";

enum class Kind { normalFloat, powersOfTwo, kMeans, vectors };

struct Options {
    Kind codebook = Kind::kMeans;
    std::int64_t bits = 4;
    std::int64_t groupSize = 0;
    std::int64_t dimension = 0;
    std::int64_t books = 1;
    bool errorFeedback = true;
    double damp = 0.01;
    bool requantize = false;
    std::vector<std::string> targets, ignore;

    bool hasGroups() const { return codebook == Kind::normalFloat || codebook == Kind::powersOfTwo; }
};

constexpr std::int64_t kPerChannel = -1;
constexpr std::int64_t kUsualGroup = 64;
constexpr std::int64_t kSmallestGroup = 16;
/// Larger codebooks take as much as the numbers they save.
constexpr std::int64_t kMostVectorBits = 12;
constexpr std::int64_t kUsualVectorBits = 8;

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .choice("codebook", &Options::codebook,
                {{"normal-float", Kind::normalFloat},
                 {"logarithmic", Kind::powersOfTwo},
                 {"k-means", Kind::kMeans},
                 {"vector", Kind::vectors}},
                "normal-float: quantiles of the normal distribution (NF4 at 4 bits); logarithmic: powers of "
                "two; k-means: the best levels of each output channel; vector: entries for pieces of several "
                "weights, found by k-means")
        .option("bits", &Options::bits, "bits of a weight, without scales and codebooks")
        .range(1, 8)
        .option("group_size", &Options::groupSize,
                "normal-float and logarithmic: weights that share a scale, along the summed axis, 16 to 4096; "
                "-1: one scale per output channel; 0: 64")
        .range(kPerChannel, 4096)
        .option("dimension", &Options::dimension,
                "vector: weights of a piece, 2, 4 or 8; 0: as many as codebooks of 256 entries allow")
        .range(0, 8)
        .option("books", &Options::books,
                "vector: codebooks whose entries are added up; each has the bits of a piece divided by their "
                "number")
        .range(1, 2)
        .option("error_feedback", &Options::errorFeedback,
                "with calibration data: let each rounding repay what the ones before it cost the layer's "
                "output; false: nearest entries")
        .option("damp", &Options::damp,
                "added to the diagonal of the activations' second moments, as a share of its mean")
        .alias("percdamp")
        .alias("dampening_frac")
        .range(1e-6, 100.0)
        .option("requantize", &Options::requantize, kRequantizeHelp)
        .option("targets", &Options::targets, "sites to quantize, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

/// Weights of a piece; 0 when none fits.
std::int64_t dimensionOf(const Options& options) {
    if (options.dimension > 0) return options.dimension;
    for (const std::int64_t dimension : {8, 4, 2})
        if (options.bits * dimension % options.books == 0 &&
            options.bits * dimension / options.books <= kUsualVectorBits)
            return dimension;
    return 0;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const auto bitsBetween = [&](std::int64_t low, std::int64_t high) {
        if (options.bits < low || options.bits > high)
            diagnostics.add(pointer + "/bits", fmt::format("this codebook takes {} to {} bits, and bits is {}",
                                                           low, high, options.bits));
    };
    if (options.codebook == Kind::normalFloat) bitsBetween(2, 8);
    if (options.codebook == Kind::powersOfTwo) bitsBetween(2, 5);
    if (!options.hasGroups() && options.groupSize != 0)
        diagnostics.add(pointer + "/group_size", "only normal-float and logarithmic have a scale a group");
    if (options.groupSize > 0 && options.groupSize < kSmallestGroup)
        diagnostics.add(pointer + "/group_size",
                        fmt::format("{} is too small: 16 or more, or -1 for one scale per output channel",
                                    options.groupSize));
    if (options.codebook != Kind::vectors) {
        if (options.dimension != 0) diagnostics.add(pointer + "/dimension", "only vector has pieces");
        if (options.books != 1) diagnostics.add(pointer + "/books", "only vector adds codebooks up");
        return;
    }
    const std::int64_t dimension = dimensionOf(options);
    if (dimension != 2 && dimension != 4 && dimension != 8) {
        diagnostics.add(pointer + "/dimension",
                        dimension == 0 ? "no piece of 2 weights or more fits; take fewer bits or more books"
                                       : "pieces have 2, 4 or 8 weights");
        return;
    }
    const std::int64_t bits = options.bits * dimension;
    if (bits % options.books != 0 || bits / options.books > kMostVectorBits)
        diagnostics.add(pointer + "/dimension",
                        fmt::format("{} bits of a piece in {} codebook{}: each takes a whole number of bits, {} "
                                    "at most",
                                    bits, options.books, options.books > 1 ? "s" : "", kMostVectorBits));
}

/// [inputs, channels] as [channels, inputs], and back.
std::vector<float> transposed(std::span<const float> values, std::int64_t rows, std::int64_t columns) {
    std::vector<float> result(values.size());
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
            result[static_cast<std::size_t>(j * rows + i)] =
                values[static_cast<std::size_t>(i * columns + j)];
    return result;
}

class QuantizeCodebook : public pipeline::Pass {
  public:
    explicit QuantizeCodebook(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        if (options_.requantize)
            restoreToRequantize(model, context, {options_.targets, options_.ignore}, kPass, report);
        const std::vector<TargetWeight> weights =
            targetWeights(context.view(model),
                          {options_.targets, options_.ignore, WeightQuery::Tables::always,
                           kFewestValuesToStoreNarrower, kFewestTableValuesToStoreNarrower},
                          report);
        const auto statistics = inputStatistics(model, context, weights);
        ir::Edit edit(model, kPass);
        context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
        for (const TargetWeight& weight : weights) {
            const auto found = statistics.find(weight.sites.front()->input);
            const bool isKnown = isFitted(weight) && found != statistics.end();
            if (const std::string reason = refusal(weight); !reason.empty())
                skip(report, weight, reason);
            else
                quantize(edit, weight, isKnown ? &found->second : nullptr,
                         context.random(weight.constant->name()), report);
            releaseIfMapped(weight.constant->constant()->bytes());
            context.progress().step();
        }
        context.progress().end();
        edit.commit();
        return report;
    }

  private:
    using Statistics = std::map<const ir::Value*, ChannelStatistics>;

    /// Whether what the weight is multiplied with says how to round it.
    static bool isFitted(const TargetWeight& weight) {
        return multipliesRows(weight) && weight.sites.size() == 1;
    }

    Statistics inputStatistics(const ir::Model& model, const PassContext& context,
                               const std::vector<TargetWeight>& weights) const {
        if (!context.hasCalibration()) return {};
        calibration::ValueSet inputs;
        for (const TargetWeight& weight : weights)
            if (isFitted(weight)) inputs.insert(weight.sites.front()->input);
        const data::Dataset& samples =
            context.calibration(kPass, "weights count by what they are multiplied with");
        return calibration::collectChannelStatistics(model, samples, inputs, calibration::MomentOrder::second,
                                                     context.progress(), context.resources());
    }

    std::string refusal(const TargetWeight& weight) const {
        const Shape& shape = weight.constant->constant()->shape();
        if (shape.size() != 2) return fmt::format("its weight has rank {}, not 2", shape.size());
        if (options_.codebook == Kind::vectors && shape[weight.inAxis] % dimensionOf(options_) != 0)
            return fmt::format("its channels of {} weights are no whole pieces of {}", shape[weight.inAxis],
                               dimensionOf(options_));
        if (weight.hasLinear()) return {};
        if (options_.codebook == Kind::kMeans)
            return "it is an embedding table, whose rows are too many for a codebook each; take another "
                   "codebook, or method embedding";
        for (const analysis::Site* site : weight.sites)
            if (std::string reason = QuantizedTable::refusal(*site->node, static_cast<int>(options_.bits), 2);
                !reason.empty())
                return reason;
        return {};
    }

    CodebookMatrix fitted(const WeightMatrix& matrix, Random random) const {
        const std::int64_t levels = std::int64_t{1} << options_.bits;
        const std::int64_t group = options_.groupSize == kPerChannel ? matrix.inputs
                                   : options_.groupSize == 0         ? kUsualGroup
                                                                     : options_.groupSize;
        const std::int64_t block = std::min(group, matrix.inputs);
        const int bits = static_cast<int>(options_.bits);
        switch (options_.codebook) {
            case Kind::normalFloat:
                return withLevels(matrix, normalFloatLevels(bits), block);
            case Kind::powersOfTwo:
                return withLevels(matrix, powerOfTwoLevels(bits), block);
            case Kind::kMeans:
                return withBestLevels(matrix, levels);
            case Kind::vectors:
                break;
        }
        const std::int64_t dimension = dimensionOf(options_);
        return withVectors(
            matrix,
            {dimension, std::int64_t{1} << (options_.bits * dimension / options_.books), options_.books},
            random);
    }

    void quantize(ir::Edit& edit, const TargetWeight& weight, const ChannelStatistics* input, Random random,
                  PassReport& report) const {
        const Tensor& constant = *weight.constant->constant();
        const auto values = constant.data<float>();
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
            return skip(report, weight, kNotFinite);
        const Shape& shape = constant.shape();
        const bool byChannel = weight.inAxis == 1;
        const std::int64_t channels = shape[weight.outAxis], inputs = shape[weight.inAxis];
        std::vector<float> turned = transposed(values, shape[0], shape[1]);
        WeightMatrix matrix;
        matrix.weights = byChannel ? values : std::span<const float>(turned);
        matrix.channels = channels;
        matrix.inputs = inputs;
        matrix.importance.assign(static_cast<std::size_t>(inputs), 1.0F);
        std::optional<LayerBias> bias;
        std::vector<double> moment;
        if (input != nullptr) {
            bias = biasBehind(weight);
            moment = bias ? centred(*input) : input->secondMoment;
            for (std::int64_t i = 0; i < inputs; ++i)
                matrix.importance[static_cast<std::size_t>(i)] =
                    static_cast<float>(std::max(0.0, moment[static_cast<std::size_t>(i * inputs + i)]));
        }
        const bool seen = input != nullptr && *std::ranges::max_element(matrix.importance) > 0;
        if (!seen) std::ranges::fill(matrix.importance, 1.0F);
        CodebookMatrix codes = fitted(matrix, random);
        if (seen && options_.errorFeedback) {
            ErrorFeedback problem;
            problem.weights = byChannel ? std::span<const float>(turned) : values;
            problem.inputs = inputs;
            problem.channels = channels;
            problem.secondMoment = moment;
            problem.damp = options_.damp;
            chooseByFeedback(codes, problem);
        }
        const std::vector<float> decoded = codes.decoded();
        // As a tensor of [channels, inputs].
        const kernels::QuantizationLayout layout = groupedLayout({channels, inputs}, 1, inputs);
        const double error = seen ? relativeOutputError(matrix.weights, decoded, layout, moment)
                                  : relativeError(matrix.weights, decoded);
        store(edit, weight, codes);
        if (bias) {
            bias->add(meanErrors(matrix, decoded, input->mean));
            edit.setConstant(bias->value, bias->changed);
        }
        const std::string change =
            fmt::format("{} to {}", describe(constant), describeCodes(codes));
        for (const analysis::Site* site : weight.sites) report.changed.push_back({site->name, change, error});
    }

    /// Second moments about the mean.
    static std::vector<double> centred(const ChannelStatistics& input) {
        const std::size_t n = input.mean.size();
        std::vector<double> result = input.secondMoment;
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j) result[i * n + j] -= input.mean[i] * input.mean[j];
        return result;
    }

    /// What the layer's outputs lack on average.
    static std::vector<float> meanErrors(const WeightMatrix& matrix, const std::vector<float>& decoded,
                                         const std::vector<double>& mean) {
        std::vector<float> result;
        const auto inputs = static_cast<std::size_t>(matrix.inputs);
        for (std::size_t first = 0; first < decoded.size(); first += inputs) {
            double sum = 0;
            for (std::size_t i = 0; i < inputs; ++i)
                sum += mean[i] * (static_cast<double>(matrix.weights[first + i]) - decoded[first + i]);
            result.push_back(static_cast<float>(sum));
        }
        return result;
    }

    static double relativeError(std::span<const float> before, const std::vector<float>& after) {
        double lost = 0, all = 0;
        for (std::size_t i = 0; i < after.size(); ++i) {
            lost += std::pow(static_cast<double>(after[i]) - before[i], 2);
            all += static_cast<double>(before[i]) * before[i];
        }
        return all > 0 ? std::sqrt(lost / all) : 0;
    }

    static void store(ir::Edit& edit, const TargetWeight& weight, const CodebookMatrix& codes) {
        CodebookStorage storage(edit, weight.constant->name(), codes);
        if (weight.hasLinear()) {
            ir::Value* all = storage.all();
            if (weight.inAxis == 0)
                all = emit(edit, "Transpose", {all}, {{"perm", std::vector<std::int64_t>{1, 0}}});
            edit.replaceAllUses(weight.constant, all);
            return;
        }
        for (const analysis::Site* site : weight.sites) {
            ir::Value* indices = site->node->input(1);
            edit.replaceAllUses(site->node->output(),
                                storage.rows(indices, static_cast<std::int64_t>(indices->shape()->size())));
        }
    }

    std::string describeCodes(const CodebookMatrix& codes) const {
        switch (options_.codebook) {
            case Kind::normalFloat:
                return fmt::format("normal floats of {} bits, a scale per {} weights", options_.bits, codes.block);
            case Kind::powersOfTwo:
                return fmt::format("{} powers of two and 0, a scale per {} weights", codes.size - 1, codes.block);
            case Kind::kMeans:
                return fmt::format("{} levels a channel", codes.size);
            case Kind::vectors:
                break;
        }
        return fmt::format("{}{} vectors of {} weights", options_.books > 1 ? "sums of 2 of " : "", codes.size,
                           codes.dimension);
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo quantizeCodebook() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "codebook";
    info.summary = "weights as numbers of codebook entries: normal floats, powers of two, k-means, vectors";
    info.details =
        "Stores the weights of linear layers (and, but for k-means, embedding tables) as packed numbers that "
        "standard operators look up in a codebook when the model is loaded. With calibration data weights "
        "count by what they are multiplied with, and each rounding repays the ones before it.";
    info.paper =
        "Kim et al. 2023, SqueezeLLM; Dettmers et al. 2023, QLoRA; Miyashita et al. 2016, Convolutional Neural "
        "Networks using Logarithmic Data Representation; van Baalen et al. 2024, GPTVQ; Egiazarian et al. 2024, "
        "AQLM";
    info.data = pipeline::DataNeed::optional;
    bindOptions<QuantizeCodebook>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkOptions));
    return info;
}

}  // namespace tcompress::passes
