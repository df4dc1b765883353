#pragma once
// What makes two models, or two sets of samples, the same to a statistic: SHA-256 of their content, wherever
// it came from.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"

namespace tcompress::calibration {

/// Of models that are looked at again and again while they are edited: a constant is hashed once as long as it stays
/// the same bytes.
class Fingerprints {
  public:
    /// Of the whole model, weights included, as lower-case hexadecimal.
    std::string of(const ir::Model& model);

  private:
    struct Known {
        std::shared_ptr<const std::byte> bytes;  ///< shared, so nobody may write to them
        std::size_t size = 0;
        std::string digest;
        std::uint64_t turn = 0;  ///< when it was last asked for
    };
    std::map<const std::byte*, Known> known_;
    std::uint64_t turn_ = 0;
};

/// As Fingerprints::of().
std::string fingerprint(const ir::Model& model);
/// Of the kernels that this process chooses: others round differently.
std::string fingerprintOfKernels();
/// Of names, types, shapes and elements of the arrays; labels do not count.
std::string fingerprint(const data::Dataset& dataset);

}  // namespace tcompress::calibration
