#include "lib/support/check.h"

#include <fmt/core.h>

#include "lib/support/error.h"

namespace tcompress::detail {

void checkFailed(const char* condition, const char* file, int line, const std::string& message) {
    throw InternalError(fmt::format("internal error at {}:{}: {} ({})", file, line, message, condition));
}

}  // namespace tcompress::detail
