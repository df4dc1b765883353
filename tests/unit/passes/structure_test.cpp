#include "passes/support/structure.h"

#include <catch2/catch.hpp>

#include "lib/analysis/axis_store.h"
#include "passes/support/index_ranges.h"

using namespace tcompress;
using passes::Scope;
using passes::selectUnits;
using Masks = std::vector<std::vector<bool>>;

TEST_CASE("the lowest scores of each layer go, ties by index") {
    CHECK(selectUnits({{"a", {3, 1, 2, 1}}, {"b", {1, 1, 1, 1}}}, {-1, 0.5, Scope::layer, 1}) ==
          Masks{{true, false, true, false}, {false, false, true, true}});
    CHECK(selectUnits({{"a", {3, 1, 2, 1}}}, {1, 0, Scope::layer, 1}) == Masks{{true, false, true, true}});
}

TEST_CASE("a share is rounded down to whole units") {
    CHECK(selectUnits({{"a", {3, 1, 2}}}, {-1, 0.5, Scope::layer, 1}) == Masks{{true, false, true}});
    CHECK(selectUnits({{"a", {3, 1, 2}}}, {-1, 0.3, Scope::layer, 1}) == Masks{{true, true, true}});
}

TEST_CASE("one unit always stays") {
    CHECK(selectUnits({{"a", {3, 1, 2}}}, {-1, 1.0, Scope::layer, 1}) == Masks{{true, false, false}});
    CHECK(selectUnits({{"a", {3, 1}}, {"b", {9, 8}}}, {-1, 1.0, Scope::global, 1}) ==
          Masks{{true, false}, {true, false}});
}

TEST_CASE("what stays in a layer is rounded up to the multiple, but not beyond the layer") {
    CHECK(selectUnits({{"a", {6, 5, 4, 3, 2, 1}}}, {-1, 0.5, Scope::layer, 4}) ==
          Masks{{true, true, true, true, false, false}});
    CHECK(selectUnits({{"a", {6, 5, 4}}}, {-1, 0.5, Scope::layer, 4}) == Masks{{true, true, true}});
}

TEST_CASE("global scope compares shares of a layer, not magnitudes") {
    // Layer b's scores are all smaller than layer a's, but its first unit carries almost all of b.
    CHECK(selectUnits({{"a", {100, 90, 80}}, {"b", {9, 0.1, 0.2}}}, {2, 0, Scope::global, 1}) ==
          Masks{{true, true, true}, {true, false, false}});
}

TEST_CASE("leaf positions agree with one mask a position") {
    analysis::AxisStore store;
    const analysis::Axis heads = store.axis(5), dims = store.axis(3), valueDims = store.axis(2),
                         other = store.axis(4);
    analysis::Axis query = heads, value = heads;
    query.insert(query.end(), dims.begin(), dims.end());
    value.insert(value.end(), valueDims.begin(), valueDims.end());
    const analysis::Axis axis = store.concatenate({query, other, value});
    const analysis::AtomId leaf = store.leaves(heads).front();

    std::vector<std::int64_t> expected(static_cast<std::size_t>(store.size(axis)), -1);
    for (std::int64_t p = 0; p < 5; ++p) {
        std::vector<bool> keep(5, true);
        keep[static_cast<std::size_t>(p)] = false;
        const std::vector<bool> mask = store.mask(axis, {{leaf, keep}});
        for (std::size_t i = 0; i < mask.size(); ++i)
            if (!mask[i]) expected[i] = p;
    }
    CHECK(passes::leafPositions(store, axis, leaf) == expected);
    CHECK(std::count(expected.begin(), expected.end(), -1) == 4);
}

TEST_CASE("index ranges") {
    using Indices = std::vector<std::int64_t>;
    CHECK(passes::parseIndexRange("3") == Indices{3});
    CHECK(passes::parseIndexRange("0-2") == Indices{0, 1, 2});
    for (const char* wrong : {"", "-", "2-1", "a", "1-", "-1", "1-2-3", "99999999999", " 1"})
        CHECK_FALSE(passes::parseIndexRange(wrong).has_value());
}
