#pragma once
// What all weight-only methods share: the options of how weights are stored, which weights they take, the
// grid of each, and how codes enter the graph. Activations stay float32.
//
//   MatMul(x, W)        →  MatMul(x, DequantizeLinear(Wq, scales, zero points))       4 and 8 bits
//                       →  MatMul(x, (unpacked codes − zero points) · scales)          any number of bits
//   Gather(table, ids)  →  rows gathered as integers, then dequantized (quantized_table.h)
//
// The second form is made of standard operators that runtimes fold when they load the model: the file is
// small and the product stays float32. The first lets ONNX Runtime multiply with the integers (MatMulNBits),
// which also rounds the activations. ONNX Runtime's own operators are a third form (contrib_format.h).

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/ir/edit.h"
#include "lib/pipeline/pass.h"
#include "lib/support/option_set.h"
#include "passes/quantize/floating/float_form.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

enum class Observer { automatic, minmax, mse };
enum class WeightFormat { automatic, qdq, packed, contrib };

inline constexpr std::int64_t kPerChannel = -1;
inline constexpr std::int64_t kAutomaticGroup = 0;

struct StorageOptions {
    std::int64_t bits = 8;
    std::int64_t groupSize = kAutomaticGroup;
    bool symmetric = false;
    bool ternary = false;
    Observer observer = Observer::automatic;
    DType scaleType = DType::float16;
    WeightFormat format = WeightFormat::automatic;
    bool requantize = false;
    std::vector<std::string> targets, ignore;
};

/// How weights of any width are stored, but for their scales, and which.
template <class Options>
void addFormOptions(OptionTable<Options>& table) {
    table
        .option("symmetric", static_cast<bool Options::*>(&Options::symmetric),
                "no zero points: smaller, less exact")
        .choice("observer", static_cast<Observer Options::*>(&Options::observer),
                {{"auto", Observer::automatic}, {"minmax", Observer::minmax}, {"mse", Observer::mse}},
                "range of a group: smallest to largest weight, or the cut with the smallest squared error; "
                "auto: mse below 8 bits, minmax at 8; two levels, and three with mse, are the best there are")
        .choice("format", static_cast<WeightFormat Options::*>(&Options::format),
                {{"auto", WeightFormat::automatic},
                 {"qdq", WeightFormat::qdq},
                 {"packed", WeightFormat::packed},
                 {"contrib", WeightFormat::contrib}},
                "qdq: DequantizeLinear, at 8 and 4 bits, which ONNX Runtime multiplies as integers; packed: "
                "operators that are folded to float32 weights when the model is loaded; contrib: ONNX "
                "Runtime's own operators where they fit, at 8 and 4 bits; auto: qdq at 8 and 4 bits, else "
                "packed")
        .option("requantize", static_cast<bool Options::*>(&Options::requantize), kRequantizeHelp)
        .option("targets", static_cast<std::vector<std::string> Options::*>(&Options::targets),
                "sites to quantize, by patterns")
        .option("ignore", static_cast<std::vector<std::string> Options::*>(&Options::ignore),
                "sites to leave alone, by patterns");
}

template <class Options>
void addStorageOptions(OptionTable<Options>& table) {
    table
        .option("bits", static_cast<std::int64_t Options::*>(&Options::bits),
                "bits of a weight: 8, 6, 5, 4, 3, 2 or 1")
        .range(1, 8)
        .option("group_size", static_cast<std::int64_t Options::*>(&Options::groupSize),
                "weights that share a scale, along the summed axis: 16 to 4096; -1: one scale per output "
                "channel; 0: 32 below 8 bits, per channel at 8")
        .range(kPerChannel, 4096);
    // The field's other name, where it does not mean GPTQ's block of columns.
    if constexpr (!requires { &Options::blockSize; }) table.alias("block_size");
    table
        .option("ternary", static_cast<bool Options::*>(&Options::ternary),
                "with 2 bits: weights are −s, 0 or s, stored five to a byte (1.6 bits)")
        .choice("scale_type", static_cast<DType Options::*>(&Options::scaleType),
                {{"float16", DType::float16}, {"float32", DType::float32}, {"uint8", DType::uint8}},
                "what scales are stored in; uint8: as codes with a float32 unit for each 256 of them (double "
                "quantization; embedding tables keep float16)");
    addFormOptions(table);
}

void checkStorageOptions(const StorageOptions& options, const std::string& pointer, Diagnostics& diagnostics);

/// How one weight is cut into groups.
struct StoragePlan {
    kernels::QuantizationLayout layout;
    bool perChannel = true;
    std::string refusal;  ///< why the weight cannot be stored; empty when it can
};

/// Codes of one weight; nothing when it holds NaN or infinity.
using Rounding = std::function<std::optional<QuantizedWeights>(const TargetWeight& weight,
                                                               const kernels::QuantizationLayout& layout)>;

class WeightStorage {
  public:
    WeightStorage(const StorageOptions& options, std::string pass)
        : options_(options), pass_(std::move(pass)) {}

    /// The weights to work on, with the opset raised to what the format needs.
    std::vector<TargetWeight> weights(ir::Model& model, const pipeline::PassContext& context,
                                      pipeline::PassReport& report) const;
    /// Rounds and stores one weight after another.
    void quantizeEach(ir::Model& model, const pipeline::PassContext& context,
                      const std::vector<TargetWeight>& weights, const Rounding& rounding,
                      pipeline::PassReport& report) const;
    /// Of linear layers' weights, and of one weight.
    QuantizationRule rule() const;
    QuantizationRule rule(const TargetWeight& weight) const;
    StoragePlan plan(const TargetWeight& weight) const;
    /// Replaces the weight by its codes and reports its sites, with `error` (negative: the codes' own).
    void store(ir::Edit& edit, const TargetWeight& weight, QuantizedWeights quantized,
               pipeline::PassReport& report, double error = -1) const;

  private:
    bool usesDequantizeLinear() const;
    std::int64_t groupSize() const;
    void raiseOpset(ir::Model& model, const pipeline::PassContext& context,
                    pipeline::PassReport& report) const;
    WeightQuery query() const;
    void dequantizeLinear(ir::Edit& edit, const TargetWeight& weight, const StoragePlan& plan,
                          QuantizedWeights& quantized) const;
    static void unpack(ir::Edit& edit, const TargetWeight& weight, const QuantizedWeights& quantized);

    StorageOptions options_;
    std::string pass_;
};

}  // namespace tcompress::passes
