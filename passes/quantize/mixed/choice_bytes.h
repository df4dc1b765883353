#pragma once
// What ways to store a weight take in the file: the parts that are really emitted, measured on a copy of the
// model with placeholder codes. Operands of some bytes that layers share are left to the file as a whole.

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "lib/ir/model.h"
#include "passes/quantize/storage/weight_storage.h"
#include "passes/quantize/table/tiered_quantizer.h"

namespace tcompress::passes {

/// Bytes of the file, more than with the weight as it is (mostly negative).
class ChoiceBytes {
  public:
    /// `model` and `pass` must outlive it.
    ChoiceBytes(const ir::Model& model, const std::string& pass);

    /// Weights that look alike take the same and are measured once. `storage` must outlive this, too.
    std::int64_t of(const TargetWeight& weight, const WeightStorage& storage);
    std::int64_t of(const TargetWeight& weight, const EncodedTable& table) const;

  private:
    using Key = std::tuple<const WeightStorage*, Shape, std::size_t, std::size_t, std::string>;

    template <class Store>
    std::int64_t added(const TargetWeight& weight, const Store& store) const;

    const ir::Model& model_;
    const std::string& pass_;
    std::int64_t before_;
    std::map<Key, std::int64_t> known_;
};

}  // namespace tcompress::passes
