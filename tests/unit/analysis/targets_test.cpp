#include "lib/analysis/targets.h"

#include <catch2/catch.hpp>

#include "lib/support/error.h"
#include "tests/unit/analysis/tiny_transformer.h"

namespace tcompress::analysis {
namespace {

TEST_CASE("globs") {
    CHECK(globMatches("*", ""));
    CHECK(globMatches("*", "a/b"));
    CHECK(globMatches("a*c", "abbc"));
    CHECK(globMatches("a*c*", "acb"));
    CHECK(globMatches("*b*d", "abcbd"));
    CHECK(globMatches("layer.?", "layer.3"));
    CHECK(globMatches("layer.[0-2]", "layer.1"));
    CHECK_FALSE(globMatches("layer.[0-2]", "layer.3"));
    CHECK(globMatches("layer.[!0-2]", "layer.3"));
    CHECK(globMatches("a[", "a["));
    CHECK_FALSE(globMatches("a*c", "abb"));
    CHECK_FALSE(globMatches("", "a"));
    CHECK_FALSE(globMatches("abc", "ab"));
    CHECK_FALSE(globMatches("?", ""));
}

class Targets {
  public:
    std::vector<std::string> select(std::vector<std::string> targets,
                                    std::vector<std::string> ignore = {}) const {
        std::vector<std::string> weights;
        for (std::size_t i : SitePatterns(std::move(targets), std::move(ignore)).select(view_)) {
            weights.push_back(view_.sites[i].weight->name());
        }
        return weights;
    }

  private:
    ir::Model model_ = preNorm(plainAttention);
    TransformerView view_ = recognise(model_);
};

using Names = std::vector<std::string>;

TEST_CASE("patterns select sites") {
    const Targets t;
    CHECK(t.select({}).size() == 12);
    CHECK(t.select({"q?"}) == Names{"q0", "q1"});
    CHECK(t.select({"re:^(up|down)0$"}) == Names{"up0", "down0"});
    CHECK(t.select({"re:^[qk]"}, {"block:1"}) == Names{"q0", "k0"});
    CHECK(t.select({"role:ffn.up", "role:attention.o"}) == Names{"o0", "up0", "o1", "up1"});
    CHECK(t.select({"role:ffn"}) == Names{"up0", "down0", "up1", "down1"});
    CHECK(t.select({"role:ffn.*"}, {"role:ffn.down"}) == Names{"up0", "up1"});
    CHECK(t.select({"op:MatMul"}).size() == 12);
    CHECK(t.select({"block:0"}, {"role:attention"}) == Names{"up0", "down0"});
    CHECK(t.select({"block:0-1"}, {"op:MatMul"}).empty());
    CHECK(t.select({}, {"block:0,1"}).empty());
}

std::string message(const Targets& t, const Names& targets, const Names& ignore = {}) {
    try {
        t.select(targets, ignore);
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST_CASE("a pattern that matches nothing is named, in either list, with what was probably meant") {
    const Targets t;
    CHECK_THROWS_AS(t.select({"qq0"}), PassError);
    CHECK_THROWS_AS(t.select({}, {"nothing*"}), PassError);
    CHECK(message(t, {"downn0"}).find("'down0'") != std::string::npos);
    CHECK(message(t, {"q0", "op:Matmul"}).find("'MatMul'") != std::string::npos);
    CHECK(message(t, {"role:classifier"}).find("'role:classifier'") != std::string::npos);
    CHECK(message(t, {"block:2-7"}).find("2 recognised blocks") != std::string::npos);
}

TEST_CASE("a pattern that cannot be read is a configuration error") {
    CHECK_THROWS_AS(SitePatterns({"re:("}, {}), ConfigError);
    CHECK_THROWS_AS(SitePatterns({"block:x"}, {}), ConfigError);
    CHECK_THROWS_AS(SitePatterns({"block:3-1"}, {}), ConfigError);
    CHECK_THROWS_AS(SitePatterns({"block:"}, {}), ConfigError);
    CHECK_THROWS_AS(SitePatterns({}, {"role:ffn.upp"}), ConfigError);
    CHECK_THROWS_AS(SitePatterns({""}, {}), ConfigError);
}

}  // namespace
}  // namespace tcompress::analysis
