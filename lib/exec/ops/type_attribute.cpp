#include "lib/exec/ops/type_attribute.h"

#include <fmt/core.h>

#include "lib/support/error.h"

namespace tcompress::exec {

DType typeAttribute(const Attributes& attributes, const std::string& name, DType fallback) {
    const std::int64_t number = attributes.integer(name, static_cast<std::int64_t>(fallback));
    if (number < 0 || number > static_cast<std::int64_t>(DType::int2)) {
        throw ModelError(fmt::format("attribute '{}' is {}, the number of no element type", name, number));
    }
    return static_cast<DType>(number);
}

}  // namespace tcompress::exec
