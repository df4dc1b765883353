#include "passes/quantize/solver/add_multiple.h"

#include "kernels/multiversion.h"

namespace tcompress::passes {

TCOMPRESS_MULTIVERSION void addMultiple(float* target, const float* source, float factor, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) target[i] += factor * source[i];
}

}  // namespace tcompress::passes
