#pragma once
// The constants of a model stored without their zeros where that makes its file smaller.

#include <string>
#include <string_view>
#include <vector>

#include "lib/ir/model.h"
#include "passes/support/sparse_form.h"

namespace tcompress::passes {

/// CumSum.
inline constexpr std::int64_t kOpsetOfSparseForm = 11;

struct StoredConstant {
    std::string name;
    DType dtype = DType::undefined;
    Shape shape;
    std::int64_t wholeBytes = 0;
    SparseForm form;
};
struct LeftConstant {
    std::string name, reason;
};
struct SparseOutcome {
    std::vector<StoredConstant> stored;
    std::vector<LeftConstant> left;  ///< constants of some size
    std::int64_t bytesSaved = 0;     ///< of the file
};

/// Stores each of the constants so where that saves more than its nodes take; changes nothing when the file as a whole
/// would not be smaller. The model has at least kOpsetOfSparseForm.
SparseOutcome storeWithoutZeros(ir::Model& model, const std::vector<ir::Value*>& constants, SparseStorageKind kind,
                                std::string_view pass);

/// Bytes of the file that storeWithoutZeros() makes of the model with all its constants.
std::int64_t sparseFileBytes(const ir::Model& model);

}  // namespace tcompress::passes
