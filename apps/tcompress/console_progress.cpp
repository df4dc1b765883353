#include "apps/tcompress/console_progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "lib/support/log.h"

namespace tcompress::cli {

namespace {
constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::milliseconds kLineInterval{5000};
constexpr std::int64_t kBarWidth = 30;
}  // namespace

ConsoleProgress::Style ConsoleProgress::styleOfTerminal() {
    const char* terminal = std::getenv("TERM");
    const bool dumb = terminal != nullptr && std::string(terminal) == "dumb";
    return ::isatty(STDERR_FILENO) != 0 && !dumb ? Style::bar : Style::lines;
}

void ConsoleProgress::begin(std::string_view what, std::int64_t total) {
    what_ = what;
    total_ = total;
    done_ = 0;
    shown_ = std::chrono::steady_clock::now();
}

void ConsoleProgress::end() {
    if (style_ == Style::bar) fmt::print(stderr, "\r\x1b[K");
    total_ = 0;
}

void ConsoleProgress::advance(std::int64_t done) {
    done_ += done;
    if (total_ <= 0 || style_ == Style::silent) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - shown_ < (style_ == Style::bar ? kBarInterval : kLineInterval)) return;
    shown_ = now;
    draw();
}

void ConsoleProgress::draw() const {
    if (style_ == Style::lines) {
        log::info("{}: {} of {}", what_, done_, total_);
        return;
    }
    const std::int64_t filled = std::min(kBarWidth, kBarWidth * done_ / total_);
    fmt::print(stderr, "\r\x1b[K{} [{}{}] {}/{}", what_, std::string(static_cast<std::size_t>(filled), '='),
               std::string(static_cast<std::size_t>(kBarWidth - filled), ' '), done_, total_);
    std::fflush(stderr);
}

}  // namespace tcompress::cli
