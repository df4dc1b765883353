#pragma once
// Which sites a pass works on: the patterns a user wrote under `targets` and `ignore`, resolved once against
// a recognised model. A pattern is one of
//   glob            "*", "?" and "[abc]" over the whole site name or the whole weight name:
//   "/encoder/layer.0/*", "*query*" re:REGEX        ECMAScript regular expression, searched in the site name
//   and in the weight name op:MatMul       the node's operator, "op:com.microsoft.Attention" to name its
//   domain too; globs allowed role:ffn.up     the recognised role (see name(SiteRole)); globs allowed:
//   "role:ffn.*"; the part before the dot alone
//                   means all of it: "role:ffn" is "role:ffn.*"
//   block:0-3       index of the block; a list of numbers and ranges: "block:0,2-4"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lib/analysis/transformer_view.h"

namespace tcompress::analysis {

class SitePatterns {
  public:
    /// `targets` empty means every site. Throws ConfigError for a pattern that can never be read (a broken
    /// regular expression, a block range that is no range, an unknown role).
    SitePatterns(std::vector<std::string> targets, std::vector<std::string> ignore);
    ~SitePatterns();
    SitePatterns(SitePatterns&&) noexcept;
    SitePatterns& operator=(SitePatterns&&) noexcept;
    SitePatterns(const SitePatterns&);
    SitePatterns& operator=(const SitePatterns&);

    /// Indices into view.sites that some target names and no ignore pattern does, in the view's order. Throws
    /// PassError naming the pattern, with the nearest existing name, when a pattern of either list matches no
    /// site at all.
    std::vector<std::size_t> select(const TransformerView& view) const;

  private:
    struct Pattern;
    std::vector<Pattern> targets_;
    std::vector<Pattern> ignore_;
};

/// True when `text` as a whole matches the glob ("*" also crosses "/").
bool globMatches(std::string_view glob, std::string_view text);
/// Whether a name matches a glob of `targets`, or there are none, and none of `ignore`.
bool globsSelect(const std::vector<std::string>& targets, const std::vector<std::string>& ignore, std::string_view name);

}  // namespace tcompress::analysis
