// GPTQ: weight-only quantization in which each layer's rounding repays its own error on calibration data.
//
// Layers are taken in turn, behind the quantized ones before them (gptq_run.h), and what each is fitted to is
// chosen on samples that are held back (gptq_fit.h). Coordinate descent on codes and scales goes on where GPTQ
// ends (code_descent.h).
//
// Sources: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
// Transformers"; descent: Behdin et al. 2023, "QuantEase".
//
// Not handled: what quantize/weight-only does not handle; Gemm with a scaled or transposed input has its own
// output as the only target.

#include "lib/data/split.h"
#include "passes/passes.h"
#include "passes/quantize/solver/gptq_run.h"
#include "passes/quantize/storage/weight_storage.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/gptq";

struct Options : StorageOptions {
    Options() { bits = 4; }
    std::optional<double> damp;
    bool actOrder = true;
    std::int64_t blockSize = 128;
    std::int64_t refine = kDescentSweeps;
    bool sequential = true;
    bool biasCorrection = true;
    GptqTarget target = GptqTarget::automatic;

    GptqSettings settings() const {
        GptqSettings settings;
        if (damp) settings.damps = {*damp};
        settings.order = actOrder ? ColumnOrder::activation : ColumnOrder::natural;
        settings.blockSize = blockSize;
        settings.sweeps = refine;
        settings.sequence = sequential ? LayerSequence::behindQuantized : LayerSequence::original;
        settings.biases = biasCorrection ? BiasCorrection::yes : BiasCorrection::no;
        settings.target = target;
        return settings;
    }
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    addStorageOptions(table);
    table
        .option("damp", &Options::damp,
                "added to the diagonal of the activations' second moments, as a share of its mean; left out: "
                "chosen for each layer on held-back samples")
        .alias("percdamp")
        .alias("dampening_frac")
        .range(1e-6, 100.0)
        .option("act_order", &Options::actOrder,
                "round the input channels with the largest activations first")
        .alias("desc_act")
        .alias("actorder")
        .option("block_size", &Options::blockSize,
                "input channels whose errors are handed on together; for speed only")
        .range(1, 4096)
        .option("refine", &Options::refine,
                "sweeps of coordinate descent on codes and scales behind GPTQ, kept where held-back samples "
                "gain; 0: none")
        .range(0, 100)
        .option("sequential", &Options::sequential,
                "calibrate each layer behind the quantized ones before it; false: all on the original model, "
                "in one run")
        .alias("true_sequential")
        .option("bias_correction", &Options::biasCorrection,
                "let the constant behind a layer take up the mean of its error")
        .choice(
            "target", &Options::target,
            {{"auto", GptqTarget::automatic}, {"own", GptqTarget::own}, {"original", GptqTarget::original}},
            "what a layer should reproduce: its own output behind quantized layers, or that of the "
            "original model; auto: what is closer to the original on held-back samples");
    return table;
}

class QuantizeGptq : public pipeline::Pass {
  public:
    explicit QuantizeGptq(const Options& options) : options_(options), storage_(options, kPass) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = storage_.weights(model, context, report);
        std::vector<StoredWeight> stored;
        for (const TargetWeight& weight : weights) stored.push_back({&weight, &storage_});
        const data::Split samples = context.calibrationSplit(
            kPass, "rounding is chosen by what it does to activations", kGptqHeldBack);
        quantizeByGptqInTurn(model, context.view(model), context, kPass, options_.settings(), samples, stored,
                             report);
        return report;
    }

  private:
    Options options_;
    WeightStorage storage_;
};

}  // namespace

pipeline::PassInfo quantizeGptq() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "gptq";
    info.summary = "weight-only with calibration data: each rounding repays the error before it";
    info.details =
        "As weight-only, with the codes of linear layers chosen so that the layers' outputs change least on "
        "the calibration data, layer after layer behind the quantized ones. What is fitted to and the "
        "damping "
        "are chosen on a fifth of the samples, which is held back. Coordinate descent goes on from there. "
        "Embedding tables and convolutions are rounded as by hqq without data.";
    info.paper =
        "Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained "
        "Transformers; Behdin et al. 2023, QuantEase: Optimization-based Quantization for Language Models";
    info.data = pipeline::DataNeed::always;
    bindOptions<QuantizeGptq>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
