#include "lib/analysis/axis_store.h"

#include <catch2/catch.hpp>
#include <functional>

#include "lib/support/random.h"

namespace tcompress::analysis {
namespace {

using Mask = std::vector<bool>;

Mask kronecker(const Mask& major, const Mask& minor) {
    Mask out;
    for (bool a : major) {
        for (bool b : minor) out.push_back(a && b);
    }
    return out;
}

/// Whether a position stays, by decoding it to leaf coordinates one position at a time.
bool stays(const AxisStore& store, const Axis& axis, std::int64_t position, const KeepMasks& keep) {
    const Axis atoms = store.resolve(axis);
    for (auto it = atoms.rbegin(); it != atoms.rend(); ++it) {
        const std::int64_t size = store.size({*it});
        std::int64_t coordinate = position % size;
        position /= size;
        const std::vector<Axis> parts = store.parts({*it});
        if (parts.size() > 1) {
            std::size_t part = 0;
            while (coordinate >= store.size(parts[part])) coordinate -= store.size(parts[part++]);
            if (!stays(store, parts[part], coordinate, keep)) return false;
        } else if (const auto mask = keep.find(*it); mask != keep.end()) {
            if (!mask->second[static_cast<std::size_t>(coordinate)]) return false;
        }
    }
    return true;
}

KeepMasks randomMasks(const AxisStore& store, const std::vector<Axis>& axes, Random& random) {
    KeepMasks keep;
    for (const Axis& axis : axes) {
        for (AtomId leaf : store.leaves(axis)) {
            if (keep.count(leaf) != 0 || random.below(4) == 0) continue;
            Mask mask;
            for (std::int64_t i = 0; i < store.leafSize(leaf); ++i) mask.push_back(random.below(3) != 0);
            keep[leaf] = mask;
        }
    }
    return keep;
}

TEST_CASE("flattening shortens the way to representatives and changes none") {
    AxisStore store;
    std::vector<Axis> axes;
    for (int i = 0; i < 200; ++i) axes.push_back(store.axis(24));
    for (std::size_t i = 0; i + 1 < 150; ++i) store.unify(axes[i], axes[i + 1]);
    store.take(axes[70], 4);
    for (std::size_t i = 150; i + 1 < axes.size(); ++i) store.unify(axes[i + 1], axes[i]);
    std::vector<std::string> before;
    for (const Axis& axis : axes) before.push_back(store.describe(axis));
    store.flatten();
    for (std::size_t i = 0; i < axes.size(); ++i) CHECK(store.describe(axes[i]) == before[i]);
    CHECK(store.resolve(axes[0]) == store.resolve(axes[149]));
    CHECK(store.resolve(axes[150]) == store.resolve(axes[199]));
    CHECK(store.resolve(axes[149]) != store.resolve(axes[150]));
    // And unions go on from there.
    store.unify(axes[0], axes[199]);
    CHECK(store.resolve(axes[75]) == store.resolve(axes[180]));
}

TEST_CASE("an axis of size 1 is the empty list") {
    AxisStore store;
    CHECK(store.axis(1).empty());
    CHECK(store.size({}) == 1);
    CHECK(store.mask({}, {}) == Mask{true});
    CHECK(store.describe({}) == "1");
}

TEST_CASE("splitting a hidden axis into heads labels the axis that was there before") {
    AxisStore store;
    const Axis hidden = store.axis(12);
    auto [heads, headSize] = store.take(hidden, 3);
    REQUIRE(store.leaves(hidden) == std::vector<AtomId>{heads.front(), headSize.front()});
    CHECK(store.mask(hidden, {{heads.front(), {true, false, true}}}) ==
          Mask{true, true, true, true, false, false, false, false, true, true, true, true});
    CHECK(store.mask(hidden, {{headSize.front(), {true, false, false, true}}}) ==
          Mask{true, false, false, true, true, false, false, true, true, false, false, true});
}

TEST_CASE("the halves of a rotary embedding are tied") {
    AxisStore store;
    const Axis headSize = store.axis(8);
    const Axis low = store.slice(headSize, 0, 4);
    const Axis high = store.slice(headSize, 4, 8);
    store.unify(store.concatenate({high, low}), headSize);
    CHECK(store.leaves(low) == store.leaves(high));
    CHECK(store.keptSize(headSize, {{store.leaves(low).front(), {true, false, true, true}}}) == 6);
}

TEST_CASE("a concatenation whose parts divide becomes a product with the shared minor factor") {
    AxisStore store;
    const Axis q = store.axis(12), k = store.axis(12), v = store.axis(12);
    const Axis all = store.concatenate({q, k, v});
    auto [three, rest] = store.take(all, 3);
    CHECK(store.size(rest) == 12);
    CHECK(store.leaves(q) == store.leaves(v));
    const Axis grouped = store.axis(36);
    store.unify(grouped, all);
    auto [parts, perPart] = store.take(grouped, 3);
    auto [heads, headSize] = store.take(perPart, 4);
    CHECK(store.leaves(q) ==
          std::vector<AtomId>{store.leaves(heads).front(), store.leaves(headSize).front()});
}

TEST_CASE("a repeated concatenation splits by its period") {
    AxisStore store;
    const Axis a = store.axis(3), b = store.axis(5);
    const Axis repeated = store.concatenate({a, b, a, b});
    auto [two, period] = store.take(repeated, 2);
    CHECK(store.mask(period, {{store.leaves(a).front(), {true, false, true}}}) ==
          Mask{true, false, true, true, true, true, true, true});
    CHECK(store.leaves(two).empty());
}

TEST_CASE("coprime factors conflict") {
    AxisStore store;
    CHECK_THROWS_AS(store.unify(store.axis(6), store.axis(7)), AxisConflict);
    const Axis a = store.axis(6);
    store.take(a, 2);
    const Axis b = store.axis(6);
    store.take(b, 3);
    CHECK_THROWS_AS(store.unify(a, b), AxisConflict);
    CHECK_THROWS_AS(store.slice(a, 0, 4), AxisConflict);
    CHECK_THROWS_AS(store.take(a, 5), AxisConflict);
}

TEST_CASE("what froze a leaf stays with everything it becomes") {
    AxisStore store;
    const Axis a = store.axis(12);
    store.freeze(a, "indexed");
    auto [major, minor] = store.take(a, 4);
    CHECK(store.frozenReasons(minor.front()) == std::set<std::string>{"indexed"});
    const Axis b = store.axis(3);
    store.unify(b, minor);
    CHECK(store.frozenReasons(b.front()) == std::set<std::string>{"indexed"});
    const Axis c = store.axis(4);
    auto [c1, c2] = store.take(c, 2);
    store.unify(major, c);
    CHECK(store.frozenReasons(store.leaves(c2).front()) == std::set<std::string>{"indexed"});
    const Axis free = store.axis(5);
    CHECK(store.frozenReasons(free.front()).empty());
}

TEST_CASE("an axis without positions ties nothing") {
    AxisStore store;
    const Axis none = store.axis(0);
    const Axis both = store.concatenate({none, store.axis(4)});
    CHECK(store.size(both) == 4);
    store.unify({store.axis(3).front(), none.front()}, none);
    CHECK(store.mask(none, {}).empty());
    CHECK(store.size(store.slice(both, 2, 2)) == 0);
}

TEST_CASE(
    "random programs: every relation that was stated holds for every mask, after all later refinements") {
    const std::int64_t sizes[] = {1, 2, 3, 4, 6, 8, 12, 24};
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        Random random(seed, "axis store programs");
        AxisStore store;
        std::vector<Axis> axes;
        using Relation = std::function<bool(const KeepMasks&)>;
        std::vector<std::pair<std::string, Relation>> relations;
        auto anyAxis = [&] { return axes[random.below(axes.size())]; };
        for (int i = 0; i < 4; ++i) axes.push_back(store.axis(sizes[random.below(8)]));
        for (int step = 0; step < 14; ++step) {
            try {
                switch (random.below(5)) {
                    case 0:
                        axes.push_back(store.axis(sizes[random.below(8)]));
                        break;
                    case 1: {
                        const Axis a = anyAxis(), b = anyAxis();
                        const Axis sum = store.concatenate({a, b});
                        axes.push_back(sum);
                        relations.emplace_back("concatenate", [&store, a, b, sum](const KeepMasks& keep) {
                            Mask both = store.mask(a, keep);
                            const Mask second = store.mask(b, keep);
                            both.insert(both.end(), second.begin(), second.end());
                            return store.mask(sum, keep) == both;
                        });
                        break;
                    }
                    case 2: {
                        const Axis a = anyAxis();
                        const std::int64_t part = sizes[random.below(8)];
                        if (store.size(a) % part != 0) break;
                        auto [major, minor] = store.take(a, part);
                        axes.push_back(major);
                        axes.push_back(minor);
                        relations.emplace_back("take", [&store, a, major, minor](const KeepMasks& keep) {
                            return store.mask(a, keep) ==
                                   kronecker(store.mask(major, keep), store.mask(minor, keep));
                        });
                        break;
                    }
                    case 3: {
                        const Axis a = anyAxis();
                        const auto size = static_cast<std::uint64_t>(store.size(a));
                        const auto begin = static_cast<std::int64_t>(random.below(size));
                        const auto end =
                            begin + 1 +
                            static_cast<std::int64_t>(random.below(size - static_cast<std::uint64_t>(begin)));
                        const Axis part = store.slice(a, begin, end);
                        axes.push_back(part);
                        relations.emplace_back("slice", [&store, a, part, begin, end](const KeepMasks& keep) {
                            const Mask whole = store.mask(a, keep);
                            return store.mask(part, keep) == Mask(whole.begin() + begin, whole.begin() + end);
                        });
                        break;
                    }
                    default: {
                        const Axis a = anyAxis(), b = anyAxis();
                        if (store.size(a) != store.size(b)) break;
                        store.unify(a, b);
                        relations.emplace_back("unify", [&store, a, b](const KeepMasks& keep) {
                            return store.mask(a, keep) == store.mask(b, keep);
                        });
                    }
                }
            } catch (const AxisConflict&) {
                // A refused relation is not stated; those stated before must still hold.
            }
        }
        for (int repeat = 0; repeat < 4; ++repeat) {
            const KeepMasks keep = randomMasks(store, axes, random);
            for (const auto& [what, holds] : relations) {
                INFO("seed " << seed << ": " << what);
                REQUIRE(holds(keep));
            }
            for (const Axis& axis : axes) {
                const Mask mask = store.mask(axis, keep);
                REQUIRE(static_cast<std::int64_t>(mask.size()) == store.size(axis));
                REQUIRE(store.keptSize(axis, keep) == std::count(mask.begin(), mask.end(), true));
                for (std::size_t i = 0; i < mask.size(); ++i) {
                    INFO("seed " << seed << ": " << store.describe(axis) << " at " << i);
                    REQUIRE(mask[i] == stays(store, axis, static_cast<std::int64_t>(i), keep));
                }
            }
        }
    }
}

TEST_CASE("an axis is followed into so many parts and no further") {
    AxisStore store;
    Axis doubled = store.axis(2);
    int doublings = 0;
    try {
        for (; doublings < 60; ++doublings) doubled = store.concatenate({doubled, doubled});
    } catch (const AxisConflict& conflict) {
        CHECK(conflict.reason() == "a concatenation of 8192 parts");
    }
    CHECK(doublings == 12);
    const Axis sequence = store.axis(10'000);
    std::int64_t cuts = 0;
    CHECK_THROWS_AS(
        [&] {
            for (; cuts < 10'000; ++cuts) store.slice(sequence, cuts, cuts + 1);
        }(),
        AxisConflict);
    CHECK(cuts == 4095);
    CHECK(store.size(sequence) == 10'000);
}

}  // namespace
}  // namespace tcompress::analysis
