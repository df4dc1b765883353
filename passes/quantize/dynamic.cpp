// Dynamic W8A8 quantization: weights become int8 with a scale per output channel, activations uint8 with a
// range measured on each run (int8_layers.h: the form in the graph).
//
// ONNX Runtime fuses this form into DynamicQuantizeMatMul, or MatMulIntegerToFloat where x is shared; int8
// weights without zero points run about twice as fast there as uint8 ones. Scales are stored as float16 and
// chosen before the codes, which costs nothing: a Cast of a constant is folded when the model is loaded.
//
// Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference"; per-channel weights: Krishnamoorthi 2018, "Quantizing deep
// convolutional networks for efficient inference". A weight range is its smallest and largest value by
// default: cutting it (observer mse) gains nothing at 8 bits per channel.
//
// Not handled: convolutions (ONNX Runtime has no fused dynamic form), products whose left operand is the
// weight, fused operators that keep their weight inside, and weights that are not float32.

#include "passes/passes.h"
#include "passes/quantize/int8/int8_layers.h"

namespace tcompress::passes {
namespace {

class QuantizeDynamic : public pipeline::Pass {
  public:
    explicit QuantizeDynamic(Int8Options options) : options_(std::move(options)) {}

    pipeline::PassReport run(ir::Model& model, const pipeline::PassContext& context) const override {
        return quantizeToInt8(model, context, options_, "quantize/dynamic", std::nullopt);
    }

  private:
    Int8Options options_;
};

}  // namespace

pipeline::PassInfo quantizeDynamic() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "dynamic";
    info.summary = "int8 weights per channel, uint8 activations measured on each run";
    info.details =
        "Turns linear layers into DynamicQuantizeLinear and MatMulInteger, in the form that ONNX Runtime "
        "fuses, and stores embedding tables as int8 rows that are dequantized after the look-up. Needs no "
        "calibration data; with them, outliers of activations are moved into the weights (SmoothQuant) and "
        "codes are chosen by GPTQ. Convolutions and fused operators with weights inside are left alone.";
    info.paper =
        "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient "
        "Integer-Arithmetic-Only Inference";
    info.defaultMethod = true;
    info.data = pipeline::DataNeed::optional;
    OptionTable<Int8Options> table;
    table.choice(
        "observer", &Int8Options::observer, {{"minmax", RangeChoice::minmax}, {"mse", RangeChoice::mse}},
        "range of a weight channel: smallest to largest, or the cut with the smallest squared error");
    addInt8Options(table);
    bindOptions<QuantizeDynamic>(info, std::move(table));
    return info;
}

}  // namespace tcompress::passes
