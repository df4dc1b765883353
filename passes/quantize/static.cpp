// Static W8A8 quantization: weights become int8 with a scale per output channel, activations uint8 with a
// range that calibration data show (int8_form.h: the form in the graph, "QDQ"; activation_range.h: the observers).
// Nothing is measured when the model runs. The report says which operators between codes ONNX Runtime will not fuse
// (qdq_groups.h): none of those that the pass makes, but what the model brought along.
//
// Softmax, layer norms, activations and what is not a linear layer stay float32: their inputs are not
// rounded.
//
// Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference"; smoothing: Xiao et al. 2022, "SmoothQuant".
//
// Not handled: what quantize/dynamic does not handle, and weights that several layers use.

#include "passes/passes.h"
#include "passes/quantize/int8/int8_layers.h"

namespace tcompress::passes {
namespace {

struct Options : Int8Options {
    ActivationObserver activationObserver = ActivationObserver::mse;
    double percentile = 99.99;
};

class QuantizeStatic : public pipeline::Pass {
  public:
    explicit QuantizeStatic(Options options) : options_(std::move(options)) {}

    pipeline::PassReport run(ir::Model& model, const pipeline::PassContext& context) const override {
        return quantizeToInt8(model, context, options_, "quantize/static",
                              ActivationRange{options_.activationObserver, options_.percentile});
    }

  private:
    Options options_;
};

}  // namespace

pipeline::PassInfo quantizeStatic() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "static";
    info.summary = "int8 weights per channel, uint8 activations with ranges from calibration data";
    info.details =
        "As dynamic, with the ranges of activations fixed by calibration data, so that nothing is measured "
        "when the model runs: QuantizeLinear, DequantizeLinear and MatMul, which ONNX Runtime fuses. Softmax, layer norms "
        "and activation functions stay float32. The report lists operators between codes that are not fused.";
    info.paper =
        "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient "
        "Integer-Arithmetic-Only Inference";
    info.data = pipeline::DataNeed::always;
    OptionTable<Options> table;
    table
        .choice("observer", &Options::activationObserver,
                {{"minmax", ActivationObserver::minmax},
                 {"percentile", ActivationObserver::percentile},
                 {"entropy", ActivationObserver::entropy},
                 {"mse", ActivationObserver::mse}},
                "range of activations: smallest to largest value; the given percentile; the cut that loses "
                "least information; the cut with the smallest squared error")
        .option("percentile", &Options::percentile, "per cent of the values inside the range (percentile)")
        .range(50, 100);
    addInt8Options(table);
    bindOptions<QuantizeStatic>(info, std::move(table));
    return info;
}

}  // namespace tcompress::passes
