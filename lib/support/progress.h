#pragma once
// Progress of long work, shown by apps/ (a bar on a terminal, plain lines otherwise) and silent in tests. Also the place
// where an interrupt is noticed: step() throws Cancelled after requestCancel().

#include <cstdint>
#include <string_view>

namespace tcompress {

class Progress {
  public:
    virtual ~Progress() = default;
    virtual void begin(std::string_view what, std::int64_t total) { (void)what, (void)total; }
    virtual void end() {}
    void step(std::int64_t done = 1);

    /// Async-signal-safe: the next step() of any Progress throws Cancelled.
    static void requestCancel() noexcept;

  protected:
    virtual void advance(std::int64_t done) { (void)done; }
};

/// Shows nothing; still notices an interrupt.
Progress& silentProgress();

}  // namespace tcompress
