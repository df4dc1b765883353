#include "lib/support/diagnostics.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <numeric>
#include <utility>

#include "lib/support/error.h"

namespace tcompress {
namespace {

/// Levenshtein distance in which exchanging two neighbours ("sparsiyt") counts once (optimal string
/// alignment), and letters that differ in case only are equal.
std::size_t editDistance(std::string_view a, std::string_view b) {
    auto same = [](char x, char y) {
        return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
    };
    std::vector<std::size_t> beforeLast(b.size() + 1), last(b.size() + 1), current(b.size() + 1);
    std::iota(last.begin(), last.end(), 0);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        current[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            std::size_t cost = same(a[i - 1], b[j - 1]) ? 0 : 1;
            current[j] = std::min({last[j] + 1, current[j - 1] + 1, last[j - 1] + cost});
            bool exchanged = i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]);
            if (exchanged) current[j] = std::min(current[j], beforeLast[j - 2] + 1);
        }
        std::swap(beforeLast, last);
        std::swap(last, current);
    }
    return last[b.size()];
}

}  // namespace

void Diagnostics::add(std::string place, std::string message) {
    entries_.push_back({std::move(place), std::move(message)});
}

void Diagnostics::throwIfAny() const {
    if (entries_.empty()) return;
    std::string text;
    for (const Diagnostic& entry : entries_) {
        if (!text.empty()) text += '\n';
        text += entry.place.empty() ? entry.message : fmt::format("{}: {}", entry.place, entry.message);
    }
    throw ConfigError(text);
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
    // A third of the letters may be wrong; a word cut short ("quant") still means the one candidate it
    // begins.
    std::size_t limit = std::max<std::size_t>(1, word.size() / 3);
    std::string best;
    std::size_t bestDistance = limit + 1;
    for (const std::string& candidate : candidates) {
        std::size_t distance = editDistance(word, candidate);
        if (distance < bestDistance) {
            bestDistance = distance;
            best = candidate;
        }
    }
    if (!best.empty() || word.size() < 3) return best;
    for (const std::string& candidate : candidates) {
        if (!candidate.starts_with(word)) continue;
        if (!best.empty()) return {};
        best = candidate;
    }
    return best;
}

std::string didYouMean(std::string_view word, const std::vector<std::string>& candidates) {
    std::string best = nearest(word, candidates);
    return best.empty() ? std::string() : fmt::format(", did you mean '{}'?", best);
}

std::string didYouMeanOr(std::string_view word, const std::vector<std::string>& candidates,
                         const std::string& advice) {
    const std::string suggestion = didYouMean(word, candidates);
    return suggestion.empty() ? "; " + advice : suggestion;
}

}  // namespace tcompress
