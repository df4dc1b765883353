#pragma once
// A check for our own mistakes: it stays on in release builds and throws InternalError with its place.

#include <string>

namespace tcompress::detail {
[[noreturn]] void checkFailed(const char* condition, const char* file, int line, const std::string& message);
}

#define TCOMPRESS_CHECK(condition, message)                                                          \
    do {                                                                                             \
        if (!(condition)) ::tcompress::detail::checkFailed(#condition, __FILE__, __LINE__, message); \
    } while (false)
