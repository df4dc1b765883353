#pragma once
// The ways each weight of a model can be stored, what each takes in the file, and what it does to the model's
// outputs: the items of the knapsack that mixed precision solves.
//
// Bytes are those of the parts that are really emitted (choice_bytes.h).
//
// Damage is second order in the rounding error. With calibration data that error is one of the layer's output,
// ε = ‖X·(W − V)‖² / ‖X·W‖² on held-back rows with V rounded by GPTQ on the others; for rows of a table it is
// weighted by their use. One choice of each weight, of medium error, is put into the model by itself, and what
// that does to the model's outputs (output_judge.h) gives the factor between ε and damage; for tables it is
// measured on look-ups that were not counted (table_damage.h). Damages of weights add up as long as their
// errors are independent. Without data every weight counts alike: damage is ‖W − V‖² / ‖W‖².
//
// Source: the sum of squared output errors as a measure for allocating bits: Dong et al. 2020, "HAWQ-V2:
// Hessian Aware trace-Weighted Quantization of Neural Networks"; a measured factor for each layer: Yao et al.
// 2021, "HAWQ-V3: Dyadic Neural Network Quantization".

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/storage/weight_storage.h"
#include "passes/quantize/table/tiered_quantizer.h"

namespace tcompress::passes {

/// What there is to choose from.
struct ChoiceSpace {
    std::vector<std::int64_t> bits{8, 6, 5, 4, 3, 2};
    std::vector<std::int64_t> groupSizes{32, 64, 128, kPerChannel};
    std::int64_t tables = 4;  ///< formats that the rows of a table are divided among at most
    /// What scales may be stored in: of two types the one that takes fewer bytes. In groups of 32 to 128 uint8
    /// saves 0.25 to 0.06 bits a weight, but for small weights, and adds at most a hundredth to the error at 6
    /// bits and fewer: whatever else saves as much costs more.
    std::vector<DType> scaleTypes{DType::float16, DType::uint8};
    StorageOptions storage;  ///< format and targets; bits, group size and scale type are not looked at
};

/// One way to store one weight.
struct StorageChoice {
    std::shared_ptr<const WeightStorage> storage;  ///< integers in groups
    std::optional<TablePlan> rows;                 ///< rows of a table divided among formats
    std::int64_t bytes = 0;                        ///< of the file, more than as it is (mostly negative)
    double error = 0;                              ///< ε
    double damage = 0;

    bool staysAsItIs() const { return storage == nullptr && !rows; }
};

struct WeightChoices {
    const TargetWeight* weight = nullptr;
    std::unique_ptr<TieredQuantizer> table;  ///< when rows can be divided
    std::vector<StorageChoice> choices;      ///< the first: as it is
};

/// Samples for the errors of layers, for their damages, and for the use and the damages of tables.
struct ChoiceSamples {
    data::Split errors;
    data::Dataset damages;
    data::Dataset lookUps;
};

/// One entry a weight that can be stored in any way; the others become skipped sites. `samples` null: no
/// calibration data.
std::vector<WeightChoices> measureChoices(const ir::Model& model, const pipeline::PassContext& context,
                                          const std::string& pass, const ChoiceSpace& space,
                                          const std::vector<TargetWeight>& weights,
                                          const ChoiceSamples* samples, pipeline::PassReport& report);

}  // namespace tcompress::passes
