// Weights as numbers of codebook entries, where evenly spaced levels fit them badly: bell-shaped weights, few
// bits, or pieces of weights that go together (codebook_matrix.h: which codebooks; codebook_storage.h: how
// they are decoded).
//
//   MatMul(x, W)        →  MatMul(x, Gather(codebook, numbers) · scales)
//   Gather(table, ids)  →  Gather(codebook, Gather(numbers, ids)) · Gather(scales, ids)
//
// With calibration data layers are fitted one after another, each behind those that are codebooks already
// (codebook_fit.h): k-means weighs weights by the mean square of what they are multiplied with, numbers are chosen
// with error feedback, then numbers, entries and scales are moved for the layer's output. Vectors of several matrices may
// share a codebook (shared_codebook.h), whose entries then stay while the layers are fitted.
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
#include <map>

#include "lib/data/split.h"
#include "lib/ir/edit.h"
#include "lib/support/mapped_file.h"
#include "lib/tensor/finite.h"
#include "passes/passes.h"
#include "passes/quantize/codebook/codebook_fit.h"
#include "passes/quantize/codebook/codebook_groups.h"
#include "passes/quantize/floating/float_form.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/quantize/storage/codebook_storage.h"
#include "passes/quantize/storage/quantized_table.h"
#include "passes/support/compensation.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/codebook";

/// What becomes of one weight.
struct Coded {
    CodebookMatrix codes;
    double error = 0;
};
using CodedWeights = std::map<const TargetWeight*, Coded>;

bool isFinite(const TargetWeight& weight) {
    return allFinite(weight.constant->constant()->data<float>());
}

/// Whether what the weight is multiplied with says how to round it.
bool isFitted(const TargetWeight& weight) {
    return multipliesRows(weight) && refitRefusal(weight).empty() &&
           std::all_of(weight.sites.begin(), weight.sites.end(), [](const analysis::Site* site) {
               return !site->node->is("Gemm") || site->node->attributeFloat("alpha", 1) == 1;
           });
}

double relativeError(std::span<const float> before, const std::vector<float>& after) {
    double lost = 0, all = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
        lost += std::pow(static_cast<double>(after[i]) - before[i], 2);
        all += static_cast<double>(before[i]) * before[i];
    }
    return all > 0 ? std::sqrt(lost / all) : 0;
}

class QuantizeCodebook : public pipeline::Pass {
  public:
    explicit QuantizeCodebook(CodebookOptions options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        if (options_.requantize)
            restoreToRequantize(model, context, {options_.targets, options_.ignore}, kPass, report);
        const analysis::TransformerView& view = context.view(model);
        const std::vector<TargetWeight> weights =
            targetWeights(view,
                          {options_.targets, options_.ignore, WeightQuery::Tables::always,
                           kFewestValuesToStoreNarrower, kFewestTableValuesToStoreNarrower},
                          report);
        const std::vector<const TargetWeight*> usable =
            withoutRefusal(weights, [&](const TargetWeight& weight) { return refusal(weight); }, report);
        std::vector<const TargetWeight*> alone, layers;
        for (const TargetWeight* weight : usable)
            (context.hasCalibration() && isFitted(*weight) ? layers : alone).push_back(weight);
        const std::vector<CodebookGroup> aloneGroups = codebookGroups(alone, options_.shared),
                                         layerGroups = codebookGroups(layers, options_.shared);
        CodedWeights coded;
        if (layers.empty())
            codeAlone(aloneGroups, nullptr, context, coded);
        else
            codeInTurn(model, view, aloneGroups, layers, layerGroups, context, coded, report);
        ir::Edit edit(model, kPass);
        std::map<const TargetWeight*, std::string> notes;
        std::map<const TargetWeight*, std::vector<ir::Value*>> entries;
        for (const std::vector<CodebookGroup>* groups : {&aloneGroups, &layerGroups})
            for (const CodebookGroup& group : *groups)
                if (group.isShared()) addShared(edit, group, coded, entries, notes, report);
        for (const TargetWeight* weight : usable) {
            const Coded& done = coded.at(weight);
            store(edit, *weight, done.codes, entries[weight]);
            const std::string change = fmt::format("{} to {}{}", describe(*weight->constant->constant()),
                                                   describeCodes(options_, done.codes), notes[weight]);
            for (const analysis::Site* site : weight->sites) report.changed.push_back({site->name, change, done.error});
        }
        edit.commit();
        return report;
    }

  private:
    std::string refusal(const TargetWeight& weight) const {
        const Shape& shape = weight.constant->constant()->shape();
        if (shape.size() != 2) return fmt::format("its weight has rank {}, not 2", shape.size());
        const std::int64_t piece = options_.pieceLength();
        if (shape[weight.inAxis] % piece != 0)
            return fmt::format("its channels of {} weights are no whole pieces of {}", shape[weight.inAxis], piece);
        if (!isFinite(weight)) return kNotFinite;
        if (weight.hasLinear()) return {};
        if (options_.codebook == CodebookKind::kMeans)
            return "it is an embedding table, whose rows are too many for a codebook each; take another "
                   "codebook, or method embedding";
        for (const analysis::Site* site : weight.sites)
            if (std::string reason = QuantizedTable::refusal(*site->node, static_cast<int>(options_.numberBits()), 2);
                !reason.empty())
                return reason;
        return {};
    }

    /// By their values only. `edit`, when given, puts what they stand for into the model.
    void codeAlone(const std::vector<CodebookGroup>& groups, ir::Edit* edit, const PassContext& context,
                   CodedWeights& coded) const {
        context.progress().begin("quantizing", static_cast<std::int64_t>(groups.size()));
        for (const CodebookGroup& group : groups) {
            std::vector<CodebookMatrix> codes;
            if (group.isShared()) codes = codedTogether(group, options_, context.random(group.name));
            for (std::size_t i = 0; i < group.weights.size(); ++i)
                codeAlone(*group.weights[i], group.isShared() ? &codes[i] : nullptr, edit, context, coded);
            context.progress().step();
        }
        context.progress().end();
    }

    void codeAlone(const TargetWeight& weight, CodebookMatrix* shared, ir::Edit* edit, const PassContext& context,
                   CodedWeights& coded) const {
        const Tensor& constant = *weight.constant->constant();
        const auto values = constant.data<float>();
        const Shape& shape = constant.shape();
        const bool byChannel = weight.inAxis == 1;
        std::vector<float> turned;
        if (!byChannel) turned = transposed(values, shape[0], shape[1]);
        const WeightMatrix matrix{byChannel ? values : std::span<const float>(turned), shape[weight.outAxis],
                                  shape[weight.inAxis],
                                  std::vector<float>(static_cast<std::size_t>(shape[weight.inAxis]), 1.0F)};
        Coded done{shared != nullptr
                       ? std::move(*shared)
                       : nearestCodebook(options_, matrix, context.random(weight.constant->name())),
                   0};
        const std::vector<float> decoded = done.codes.decoded();
        done.error = relativeError(matrix.weights, decoded);
        if (edit != nullptr)
            edit->setConstant(weight.constant,
                              Tensor::of<float>(shape, byChannel ? std::span<const float>(decoded)
                                                                 : transposed(decoded, shape[1], shape[0])));
        else
            releaseIfMapped(constant.bytes());
        coded.emplace(&weight, std::move(done));
    }

    void codeInTurn(ir::Model& model, const analysis::TransformerView& view,
                    const std::vector<CodebookGroup>& alone, const std::vector<const TargetWeight*>& layers,
                    const std::vector<CodebookGroup>& groups, const PassContext& context, CodedWeights& coded,
                    PassReport& report) const {
        const data::Split samples = context.calibrationSplit(
            kPass, "codebooks are chosen by what they do to outputs", kHeldBackShare);
        const ir::Model reference = referenceFor(model, layers, view, samples.fit, context);
        ir::Edit edit(model, kPass);
        codeAlone(alone, &edit, context, coded);
        edit.commit();
        const std::map<const TargetWeight*, CodebookMatrix> shared =
            codedTogether(groups, options_, model, view, samples.fit, context);
        std::size_t refined = 0;
        fitLayerwise(model, reference, view, layers, samples, context.environment(), [&](const LayerProblem& problem) {
            const auto start = shared.find(problem.weight);
            CodebookFit fit =
                start != shared.end()
                    ? fitCodebook(problem, options_, start->second)
                    : fitCodebook(problem, options_, context.random(problem.weight->constant->name()));
            if (fit.refined) ++refined;
            coded.emplace(problem.weight, Coded{std::move(fit.codes), fit.error});
            return std::move(fit.layer);
        });
        if (options_.errorFeedback && options_.refine > 0)
            report.notes.push_back(fmt::format(
                "{} of {} layers lose less on {} held-back samples with numbers, entries and scales moved about", refined,
                layers.size(), samples.heldBack.sampleCount()));
    }

    /// The codebook that a group's weights read.
    static void addShared(ir::Edit& edit, const CodebookGroup& group, const CodedWeights& coded,
                          std::map<const TargetWeight*, std::vector<ir::Value*>>& entries,
                          std::map<const TargetWeight*, std::string>& notes, PassReport& report) {
        const CodebookMatrix& first = coded.at(group.weights.front()).codes;
        const std::vector<ir::Value*> values = CodebookStorage::addEntries(edit, group.name, first);
        for (const TargetWeight* weight : group.weights) {
            entries[weight] = values;
            notes[weight] = fmt::format(", shared with {} more", group.weights.size() - 1);
        }
        const auto bytes = std::ssize(first.stages) * CodebookStorage::codebookBytes(first.dimension, first.size);
        report.notes.push_back(fmt::format(
            "{} matrices read '{}' ({} bytes), which takes {} bytes less than one codebook each", group.weights.size(),
            values.front()->name(), bytes, bytes * (std::ssize(group.weights) - 1)));
    }

    static void store(ir::Edit& edit, const TargetWeight& weight, const CodebookMatrix& codes,
                      const std::vector<ir::Value*>& entries) {
        CodebookStorage storage(edit, weight.constant->name(), codes, entries);
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

    CodebookOptions options_;
};

}  // namespace

pipeline::PassInfo quantizeCodebook() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "codebook";
    info.summary = "weights as numbers of codebook entries: normal floats, powers of two, k-means, vectors";
    info.details =
        "Stores the weights of linear layers (and, but for k-means, embedding tables) as packed numbers that "
        "standard operators look up in a codebook when the model is loaded. With calibration data layers are "
        "fitted one after another: weights count by what they are multiplied with, each rounding repays the "
        "ones before it, then numbers, entries and scales are moved for the layer's output.";
    info.paper =
        "Kim et al. 2023, SqueezeLLM; Dettmers et al. 2023, QLoRA; Miyashita et al. 2016, Convolutional Neural "
        "Networks using Logarithmic Data Representation; van Baalen et al. 2024, GPTVQ; Egiazarian et al. 2024, "
        "AQLM";
    info.data = pipeline::DataNeed::optional;
    bindOptions<QuantizeCodebook>(
        info, codebookOptionTable(),
        std::function<void(const CodebookOptions&, const std::string&, Diagnostics&)>(checkCodebookOptions));
    return info;
}

}  // namespace tcompress::passes
