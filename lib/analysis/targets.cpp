#include "lib/analysis/targets.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <regex>
#include <set>

#include "lib/support/diagnostics.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

namespace {

/// The characters up to the closing bracket; false when there is none.
bool classMatches(std::string_view& glob, char c, bool& matched) {
    const std::size_t close = glob.find(']', 2);
    if (close == std::string_view::npos) return false;
    std::string_view set = glob.substr(1, close - 1);
    const bool negated = set.front() == '!' || set.front() == '^';
    if (negated) set.remove_prefix(1);
    bool found = false;
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (i + 2 < set.size() && set[i + 1] == '-') {
            found = found || (set[i] <= c && c <= set[i + 2]);
            i += 2;
        } else {
            found = found || set[i] == c;
        }
    }
    matched = found != negated;
    glob.remove_prefix(close + 1);
    return true;
}

struct BlockRange {
    int first, last;
};

int number(std::string_view text, const std::string& pattern) {
    int value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 0) {
        throw ConfigError(fmt::format(
            "pattern '{}': '{}' is no block number; write block:2, block:0-3 or block:0,2-4", pattern, text));
    }
    return value;
}

std::vector<BlockRange> parseBlocks(std::string_view text, const std::string& pattern) {
    std::vector<BlockRange> ranges;
    while (true) {
        const std::size_t comma = text.find(',');
        const std::string_view part = text.substr(0, comma);
        const std::size_t dash = part.find('-');
        BlockRange range{number(part.substr(0, dash), pattern), 0};
        range.last = dash == std::string_view::npos ? range.first : number(part.substr(dash + 1), pattern);
        if (range.last < range.first) {
            throw ConfigError(
                fmt::format("pattern '{}': block {} lies before block {}", pattern, range.last, range.first));
        }
        ranges.push_back(range);
        if (comma == std::string_view::npos) return ranges;
        text.remove_prefix(comma + 1);
    }
}

std::string qualifiedOp(const Site& site) {
    return site.node->domain().empty() ? site.node->opType()
                                       : site.node->domain() + "." + site.node->opType();
}

}  // namespace

bool globMatches(std::string_view glob, std::string_view text) {
    // Backtracking to the last star is enough: an earlier star never has to take more.
    std::string_view afterStar;
    std::string_view starText;
    bool star = false;
    while (true) {
        if (!glob.empty() && glob.front() == '*') {
            star = true;
            glob.remove_prefix(1);
            afterStar = glob;
            starText = text;
            continue;
        }
        if (text.empty()) {
            if (glob.empty()) return true;
        } else {
            std::string_view rest = glob;
            bool matched = false;
            if (!rest.empty() && rest.front() == '[' && classMatches(rest, text.front(), matched)) {
            } else if (!rest.empty()) {
                matched = rest.front() == '?' || rest.front() == text.front();
                rest.remove_prefix(1);
            }
            if (matched) {
                glob = rest;
                text.remove_prefix(1);
                continue;
            }
        }
        if (!star || starText.empty()) return false;
        starText.remove_prefix(1);
        glob = afterStar;
        text = starText;
    }
}

bool globsSelect(const std::vector<std::string>& targets, const std::vector<std::string>& ignore,
                 std::string_view name) {
    const auto matches = [&](const std::string& glob) { return globMatches(glob, name); };
    return (targets.empty() || std::any_of(targets.begin(), targets.end(), matches)) &&
           std::none_of(ignore.begin(), ignore.end(), matches);
}

struct SitePatterns::Pattern {
    enum class Kind { glob, regex, op, role, block };
    Kind kind = Kind::glob;
    std::string text;  ///< as the user wrote it
    std::string body;  ///< behind the prefix
    std::regex regex;
    std::vector<BlockRange> blocks;

    explicit Pattern(std::string written) : text(std::move(written)), body(text) {
        const std::pair<std::string_view, Kind> prefixes[] = {
            {"re:", Kind::regex}, {"op:", Kind::op}, {"role:", Kind::role}, {"block:", Kind::block}};
        for (const auto& [prefix, prefixKind] : prefixes) {
            if (text.rfind(prefix, 0) != 0) continue;
            kind = prefixKind;
            body = text.substr(prefix.size());
        }
        if (body.empty()) throw ConfigError(fmt::format("pattern '{}' is empty", text));
        if (kind == Kind::block) blocks = parseBlocks(body, text);
        if (kind == Kind::role) checkRole();
        if (kind == Kind::regex) {
            try {
                regex = std::regex(body);
            } catch (const std::regex_error& problem) {
                throw ConfigError(
                    fmt::format("pattern '{}' is no regular expression: {}", text, problem.what()));
            }
        }
    }

    void checkRole() const {
        const std::vector<std::string> names = roleNames();
        if (std::none_of(names.begin(), names.end(),
                         [&](const std::string& role) { return roleMatches(role); })) {
            throw ConfigError(fmt::format("pattern '{}': there is no such role{}; roles are {}", text,
                                          didYouMean(body, names), fmt::join(names, ", ")));
        }
    }

    bool roleMatches(std::string_view role) const {
        return globMatches(body, role) ||
               (body.find('.') == std::string::npos && globMatches(body + ".*", role));
    }

    bool matches(const Site& site) const {
        switch (kind) {
            case Kind::glob:
                return globMatches(body, site.name) ||
                       (site.weight != nullptr && globMatches(body, site.weight->name()));
            case Kind::regex:
                return std::regex_search(site.name, regex) ||
                       (site.weight != nullptr && std::regex_search(site.weight->name(), regex));
            case Kind::op:
                return globMatches(body, site.node->opType()) || globMatches(body, qualifiedOp(site));
            case Kind::role:
                return roleMatches(name(site.role));
            case Kind::block:
                return std::any_of(blocks.begin(), blocks.end(), [&](const BlockRange& r) {
                    return r.first <= site.block && site.block <= r.last;
                });
        }
        return false;
    }

    /// What to say when it matches nothing.
    std::string hint(const TransformerView& view) const {
        std::set<std::string> known;
        for (const Site& site : view.sites) {
            switch (kind) {
                case Kind::glob:
                case Kind::regex:
                    known.insert(site.name);
                    if (site.weight != nullptr) known.insert(site.weight->name());
                    break;
                case Kind::op:
                    known.insert(qualifiedOp(site));
                    break;
                case Kind::role:
                    known.insert(std::string(name(site.role)));
                    break;
                case Kind::block:
                    break;
            }
        }
        if (kind == Kind::block)
            return fmt::format("; the model has {} recognised blocks", view.blocks.size());
        const std::vector<std::string> names(known.begin(), known.end());
        const std::string suggestion = didYouMean(body, names);
        if (!suggestion.empty()) return suggestion;
        if (kind == Kind::op || kind == Kind::role)
            return fmt::format("; there are {}", fmt::join(names, ", "));
        const std::vector<std::string> roles = roleNames();
        const bool isRole = std::ranges::any_of(roles, [&](const std::string& role) { return globMatches(body, role); });
        return isRole ? fmt::format("; a role is written 'role:{}'", body)
                      : "; `tcompress inspect MODEL --sites` lists the names";
    }
};

SitePatterns::SitePatterns(std::vector<std::string> targets, std::vector<std::string> ignore) {
    for (std::string& text : targets) targets_.emplace_back(std::move(text));
    for (std::string& text : ignore) ignore_.emplace_back(std::move(text));
}

SitePatterns::~SitePatterns() = default;
SitePatterns::SitePatterns(SitePatterns&&) noexcept = default;
SitePatterns& SitePatterns::operator=(SitePatterns&&) noexcept = default;
SitePatterns::SitePatterns(const SitePatterns&) = default;
SitePatterns& SitePatterns::operator=(const SitePatterns&) = default;

std::vector<std::size_t> SitePatterns::select(const TransformerView& view) const {
    std::vector<bool> chosen(view.sites.size(), targets_.empty());
    const auto apply = [&](const std::vector<Pattern>& patterns, bool value) {
        for (const Pattern& pattern : patterns) {
            bool any = false;
            for (std::size_t i = 0; i < view.sites.size(); ++i) {
                if (!pattern.matches(view.sites[i])) continue;
                any = true;
                chosen[i] = value;
            }
            if (!any)
                throw PassError(
                    fmt::format("pattern '{}' matches no site{}", pattern.text, pattern.hint(view)));
        }
    };
    apply(targets_, true);
    apply(ignore_, false);
    std::vector<std::size_t> selected;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        if (chosen[i]) selected.push_back(i);
    }
    return selected;
}

}  // namespace tcompress::analysis
