// Round-to-nearest weight-only quantization: weights are stored as 8- to 1-bit integers, activations stay
// float32 (weight_storage.h: the forms they take in the graph).
//
// One scale per output channel, or per block of `group_size` weights along the summed axis. Codes are rounded
// to nearest; below 8 bits the range of a block is cut where the squared error is smallest. Scales are stored
// as float16, which halves what blocks of 32 cost. Two and three levels (1 bit, ternary) are the best there
// are for each block (few_levels.h).
//
// Source: Dettmers et al. 2022, "LLM.int8()" (per-channel round-to-nearest as the baseline); the search for
// the cut: Choukroun et al. 2019, "Low-bit Quantization of Neural Networks for Efficient Inference".
//
// Not handled: products of more than two axes on the weight's side (but convolutions, per channel), tables
// that a fused operator looks up inside, and weights that are not float32.

#include "passes/passes.h"
#include "passes/quantize/storage/weight_storage.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/weight-only";

class QuantizeWeightOnly : public pipeline::Pass {
  public:
    explicit QuantizeWeightOnly(const StorageOptions& options) : storage_(options, kPass) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = storage_.weights(model, context, report);
        storage_.quantizeEach(
            model, context, weights,
            [this](const TargetWeight& weight, const kernels::QuantizationLayout& layout) {
                return quantizeWeights(weight.constant->constant()->data<float>(), layout, storage_.rule(weight));
            },
            report);
        return report;
    }

  private:
    WeightStorage storage_;
};

}  // namespace

pipeline::PassInfo quantizeWeightOnly() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "weight-only";
    info.summary = "8- to 1-bit weights, ternary ones too, per channel or in blocks; activations stay float32";
    info.details =
        "Stores the weights of linear layers, convolutions and embedding tables as integers with float16 "
        "scales, rounded to nearest. Linear layers read them through DequantizeLinear (8 and 4 bits) or "
        "through operators that unpack them when the model is loaded; embedding rows are looked up as "
        "integers and dequantized after. Blocks and 4-bit integers in DequantizeLinear raise the model to "
        "opset 21.";
    info.paper = "Choukroun et al. 2019, Low-bit Quantization of Neural Networks for Efficient Inference";
    OptionTable<StorageOptions> table;
    addStorageOptions(table);
    bindOptions<QuantizeWeightOnly>(
        info, std::move(table),
        std::function<void(const StorageOptions&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
