#pragma once
// Constants with many equal entries (zeros, or the zero point of integers) stored without them: the others in a row, and one byte for a run
// of entries that says which of them are stored. Standard operators (opset 11) put them back, which runtimes do once, when
// they load the model (lib/analysis/sparse_storage.h has the graph).
//
//   bitmask   runs of 8: each byte is a mask; 1 bit an entry whatever the share of zeros
//   N:M       where no group of M along an axis has more than N others: all combinations of places that a group can have
//             are numbered, and as many groups share a byte as fit into 256 (2:4: three, 2/3 bit an entry; 1:4: four,
//             1/2 bit). Groups with fewer store the fill value too.
//
// Zeros come back as +0; every other bit is as it was.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "lib/ir/edit.h"

namespace tcompress::passes {

enum class SparseStorageKind { automatic, bitmask, grouped };

/// How one tensor is stored.
struct SparseForm {
    std::int64_t keep = 0, group = 0;  ///< N:M; 0: a bitmask
    std::int64_t groupsAByte = 0;
    bool alongFirstAxis = false;  ///< groups lie along the first of two axes, else along the last
    std::int64_t zeros = 0;       ///< entries that are the fill value
    std::int64_t bytes = 0;       ///< of codes and values

    bool isGrouped() const { return group > 0; }
    /// Entries that a byte speaks of.
    std::int64_t run() const { return isGrouped() ? groupsAByte * group : 8; }
};

/// The smallest form of the kind; nothing when none has fewer bytes than the tensor, or its type is none of float32,
/// float16, bfloat16, int8 and uint8.
std::optional<SparseForm> sparseForm(const Tensor& tensor, SparseStorageKind kind);

/// Writes forms into an edit; what they share is stored once.
class SparseWriter {
  public:
    explicit SparseWriter(ir::Edit& edit) : edit_(edit) {}
    /// Adds initializers called after `name` and nodes; the tensor as the graph computes it.
    ir::Value* store(const std::string& name, const Tensor& tensor, const SparseForm& form);

  private:
    ir::Value* patterns(const SparseForm& form);
    ir::Value* integers(const Shape& values);

    ir::Edit& edit_;
    std::map<std::pair<std::int64_t, std::int64_t>, ir::Value*> patterns_;  ///< by N and M
    std::map<Shape, ir::Value*> integers_;
    ir::Value* axis_ = nullptr;
};

}  // namespace tcompress::passes
