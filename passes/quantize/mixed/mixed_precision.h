#pragma once
// A model whose weights are each stored in the way that was chosen for it, and the size of its file before
// anything is rounded.
//
// Placeholders go through the same emitting code in the same order as real codes, so the predicted file is as
// large as the written one to the byte. (One exception, which is measured afterwards: a tensor whose scales do
// not fit float16 gets float32 ones.)

#include <cstdint>
#include <string>
#include <vector>

#include "lib/data/split.h"
#include "lib/ir/model.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/mixed/storage_choices.h"

namespace tcompress::passes {

class MixedPrecision {
  public:
    /// `items`: choices of the weights of `model`. `samples` null: HQQ, else GPTQ.
    MixedPrecision(const ir::Model& model, const pipeline::PassContext& context, std::string pass,
                   const std::vector<WeightChoices>& items, const data::Split* samples);

    /// `chosen`: for each weight the number of its choice. The types of all values are inferred.
    ir::Model quantized(const std::vector<std::size_t>& chosen, pipeline::PassReport& report) const;
    std::int64_t predictedBytes(const std::vector<std::size_t>& chosen) const;

  private:
    enum class Codes { placeholder, rounded };
    ir::Model applied(const std::vector<std::size_t>& chosen, Codes codes, pipeline::PassReport& report) const;
    void storeTables(ir::Model& model, const std::vector<std::size_t>& chosen, Codes codes,
                     pipeline::PassReport& report) const;
    void storeGroups(ir::Model& model, const std::vector<std::size_t>& chosen, Codes codes,
                     pipeline::PassReport& report) const;

    const ir::Model& model_;
    pipeline::PassContext context_;
    std::string pass_;
    const std::vector<WeightChoices>& items_;
    const data::Split* samples_;
};

/// Bytes of the model, whose types are inferred, written as a single file, to the byte.
std::int64_t fileBytes(const ir::Model& model);

}  // namespace tcompress::passes
