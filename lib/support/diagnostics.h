#pragma once
// Problems gathered so that a user sees all of them at once, each with its place (a JSON pointer, an option's
// name).

#include <string>
#include <string_view>
#include <vector>

namespace tcompress {

struct Diagnostic {
    std::string place;
    std::string message;
};

class Diagnostics {
  public:
    void add(std::string place, std::string message);
    bool empty() const { return entries_.empty(); }
    const std::vector<Diagnostic>& entries() const { return entries_; }
    /// Throws ConfigError with one line a problem ("place: message") unless empty.
    void throwIfAny() const;

  private:
    std::vector<Diagnostic> entries_;
};

/// The candidate nearest to `word` by edit distance, or empty when none is near enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// ", did you mean 'x'?" for the nearest candidate, or empty.
std::string didYouMean(std::string_view word, const std::vector<std::string>& candidates);

/// The same, or "; " and what to do when no candidate is near.
std::string didYouMeanOr(std::string_view word, const std::vector<std::string>& candidates,
                         const std::string& advice);

}  // namespace tcompress
