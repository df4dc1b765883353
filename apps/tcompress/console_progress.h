#pragma once
// Progress on standard error: a bar on a terminal, a line every few seconds otherwise.

#include <chrono>
#include <string>

#include "lib/support/progress.h"

namespace tcompress::cli {

class ConsoleProgress : public Progress {
  public:
    enum class Style { silent, lines, bar };
    /// A bar when standard error is a terminal.
    static Style styleOfTerminal();

    explicit ConsoleProgress(Style style) : style_(style) {}

    void begin(std::string_view what, std::int64_t total) override;
    void end() override;

  protected:
    void advance(std::int64_t done) override;

  private:
    void draw() const;

    Style style_;
    std::string what_;
    std::int64_t total_ = 0;
    std::int64_t done_ = 0;
    std::chrono::steady_clock::time_point shown_;
};

}  // namespace tcompress::cli
