// Refinement works on resolved lists (leaves and sums only). Two lists are united from the major end: equal
// sizes are linked, otherwise the larger atom is split by the smaller one's size, or both by their greatest
// common divisor. The larger size strictly falls with every split, so it ends.

#include "lib/analysis/axis_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "lib/support/check.h"

namespace tcompress::analysis {

namespace {

/// An axis of more parts is not followed: real ones have a few hundred, and doubling an axis forty times is a
/// short model too.
constexpr std::size_t kMostParts = 4096;

Axis tail(const Axis& axis) { return Axis(axis.begin() + 1, axis.end()); }

Axis joined(Axis major, const Axis& minor) {
    major.insert(major.end(), minor.begin(), minor.end());
    return major;
}

}  // namespace

AtomId AxisStore::addLeaf(std::int64_t size) {
    const AtomId id = static_cast<AtomId>(atoms_.size());
    Atom leaf;
    leaf.parent = id;
    leaf.size = size;
    atoms_.push_back(std::move(leaf));
    return id;
}

Axis AxisStore::axis(std::int64_t size) {
    TCOMPRESS_CHECK(size >= 0, "an axis has no negative size");
    return size == 1 ? Axis{} : Axis{addLeaf(size)};
}

std::int64_t AxisStore::size(const Axis& axis) const {
    std::int64_t product = 1;
    for (AtomId id : axis) product *= atom(id).size;
    return product;
}

AtomId AxisStore::representative(AtomId id) const {
    while (atom(id).parent != id) id = atom(id).parent;
    return id;
}

void AxisStore::flatten() {
    for (Atom& start : atoms_) {
        const AtomId root = representative(start.parent);
        for (AtomId id = start.parent; id != root;) id = std::exchange(atom(id).parent, root);
        start.parent = root;
    }
}

void AxisStore::resolveInto(const Axis& axis, Axis& out) const {
    for (AtomId id : axis) {
        const AtomId root = representative(id);
        if (atom(root).kind == Kind::product) {
            resolveInto(atom(root).children.front(), out);
        } else {
            out.push_back(root);
        }
    }
}

Axis AxisStore::resolve(const Axis& axis) const {
    Axis out;
    resolveInto(axis, out);
    return out;
}

void AxisStore::leavesInto(const Axis& axis, std::vector<AtomId>& out) const {
    for (AtomId id : resolve(axis)) {
        if (atom(id).kind == Kind::leaf) {
            out.push_back(id);
        } else {
            for (const Axis& part : atom(id).children) leavesInto(part, out);
        }
    }
}

std::vector<AtomId> AxisStore::leaves(const Axis& axis) const {
    std::vector<AtomId> out;
    leavesInto(axis, out);
    return out;
}

std::int64_t AxisStore::leafSize(AtomId leaf) const { return atom(leaf).size; }

void AxisStore::partsInto(AtomId sum, std::vector<Axis>& out) const {
    for (const Axis& child : atom(sum).children) {
        Axis part = resolve(child);
        if (part.size() == 1 && atom(part.front()).kind == Kind::sum) {
            partsInto(part.front(), out);
        } else {
            out.push_back(std::move(part));
        }
    }
}

std::vector<Axis> AxisStore::partsOf(AtomId sum) const {
    std::vector<Axis> out;
    partsInto(sum, out);
    return out;
}

std::vector<Axis> AxisStore::parts(const Axis& axis) const {
    const Axis resolved = resolve(axis);
    if (resolved.size() == 1 && atom(resolved.front()).kind == Kind::sum) return partsOf(resolved.front());
    return {resolved};
}

Axis AxisStore::concatenate(const std::vector<Axis>& parts) {
    std::vector<Axis> present;
    std::int64_t total = 0;
    std::size_t below = 0;
    for (const Axis& part : parts) {
        if (size(part) == 0) continue;
        total += size(part);
        below += leaves(part).size();
        present.push_back(part);
    }
    if (below > kMostParts) throw AxisConflict(fmt::format("a concatenation of {} parts", below));
    if (present.empty()) return axis(0);
    if (present.size() == 1) return present.front();
    const AtomId id = addLeaf(total);
    atom(id).kind = Kind::sum;
    atom(id).children = std::move(present);
    return {id};
}

void AxisStore::refine(AtomId leaf, Kind kind, std::vector<Axis> children) {
    const std::set<std::string> frozen = std::move(atom(leaf).frozen);
    atom(leaf).frozen.clear();
    atom(leaf).kind = kind;
    atom(leaf).children = std::move(children);
    if (frozen.empty()) return;
    for (AtomId below : leaves({leaf})) atom(below).frozen.insert(frozen.begin(), frozen.end());
}

void AxisStore::split(AtomId id, std::int64_t majorSize) {
    const std::int64_t minorSize = atom(id).size / majorSize;
    if (atom(id).kind == Kind::sum) {
        splitSum(id, majorSize);
        return;
    }
    const AtomId major = addLeaf(majorSize);
    const AtomId minor = addLeaf(minorSize);
    refine(id, Kind::product, {{major, minor}});
}

// A concatenation is a product where every part is: (a·r ‖ b·r) = (a ‖ b)·r, the minor factor being shared by
// all parts. Otherwise it may be a repetition: cut at every multiple of r, all pieces are one.
void AxisStore::splitSum(AtomId id, std::int64_t majorSize) {
    const std::int64_t minorSize = atom(id).size / majorSize;
    std::vector<Axis> pieces = partsOf(id);
    const bool divisible = std::all_of(pieces.begin(), pieces.end(),
                                       [&](const Axis& part) { return size(part) % minorSize == 0; });
    std::vector<Axis> majors;
    Axis minor;
    if (divisible) {
        minor = axis(minorSize);
        for (const Axis& piece : pieces) {
            auto [head, rest] = take(piece, size(piece) / minorSize);
            unify(rest, minor);
            majors.push_back(std::move(head));
        }
    } else {
        Axis rest{id};
        for (std::int64_t i = 0; i + 1 < majorSize; ++i) {
            auto [piece, after] = cut(rest, minorSize);
            if (i == 0) {
                minor = piece;
            } else {
                unify(piece, minor);
            }
            rest = std::move(after);
            majors.emplace_back();
        }
        unify(rest, minor);
        majors.emplace_back();
    }
    const Axis product = joined(concatenate(majors), minor);
    // Uniting pieces may have refined this very atom through a shared part.
    const AtomId root = representative(id);
    if (atom(root).kind != Kind::sum) {
        unify({root}, product);
        return;
    }
    atom(root).kind = Kind::product;
    atom(root).children = {product};
}

std::pair<Axis, Axis> AxisStore::take(const Axis& from, std::int64_t wanted) {
    Axis rest = resolve(from);
    Axis out;
    std::int64_t left = wanted;
    while (left > 1) {
        if (rest.empty()) throw AxisConflict(fmt::format("{} is not a part of {}", wanted, sizes(from)));
        const AtomId first = rest.front();
        const std::int64_t have = atom(first).size;
        if (have == 0) throw AxisConflict(fmt::format("{} out of an empty axis", wanted));
        if (left % have == 0) {
            out.push_back(first);
            left /= have;
            rest = resolve(tail(rest));
            continue;
        }
        const std::int64_t common = std::gcd(left, have);
        if (common == 1) {
            throw AxisConflict(fmt::format("{} cannot be taken from {}", wanted, sizes(from)));
        }
        split(first, common);
        rest = resolve(rest);
    }
    if (left != 1) throw AxisConflict(fmt::format("{} is not a part of {}", wanted, sizes(from)));
    return {std::move(out), std::move(rest)};
}

std::pair<Axis, Axis> AxisStore::cut(const Axis& from, std::int64_t at) {
    const Axis list = resolve(from);
    TCOMPRESS_CHECK(at > 0 && at < size(list), "a cut lies inside the axis");
    const AtomId first = list.front();
    const Axis minor = tail(list);
    const std::int64_t rows = size(minor);
    if (at % rows != 0) {
        throw AxisConflict(fmt::format("a cut at {} does not fall between the parts of {}", at, sizes(list)));
    }
    const std::int64_t position = at / rows;
    if (atom(first).kind == Kind::leaf) {
        const std::int64_t whole = atom(first).size;
        const Axis before = axis(position);
        const Axis after = axis(whole - position);
        refine(first, Kind::sum, {before, after});
        return {joined(before, minor), joined(after, minor)};
    }
    std::vector<Axis> before, after;
    std::int64_t offset = 0;
    const std::vector<Axis> parts = partsOf(first);
    if (parts.size() >= kMostParts) throw AxisConflict(fmt::format("an axis cut into {} parts", parts.size()));
    for (const Axis& part : parts) {
        const std::int64_t length = size(part);
        if (offset + length <= position) {
            before.push_back(part);
        } else if (offset >= position) {
            after.push_back(part);
        } else {
            auto [head, rest] = cut(part, position - offset);
            before.push_back(std::move(head));
            after.push_back(std::move(rest));
        }
        offset += length;
    }
    return {joined(concatenate(before), minor), joined(concatenate(after), minor)};
}

Axis AxisStore::slice(const Axis& from, std::int64_t begin, std::int64_t end) {
    const std::int64_t whole = size(from);
    TCOMPRESS_CHECK(0 <= begin && begin <= end && end <= whole, "a slice lies inside the axis");
    if (begin == end) return axis(0);
    Axis rest = resolve(from);
    if (begin > 0) rest = cut(rest, begin).second;
    if (end < whole) rest = cut(rest, end - begin).first;
    return rest;
}

void AxisStore::unify(const Axis& first, const Axis& second) {
    Axis a = resolve(first);
    Axis b = resolve(second);
    if (size(a) != size(b)) throw AxisConflict(fmt::format("size {} meets size {}", size(a), size(b)));
    if (size(a) == 0) return;  // no positions, nothing to tie
    while (!a.empty() && !b.empty()) {
        const AtomId x = a.front();
        const AtomId y = b.front();
        const std::int64_t sizeX = atom(x).size;
        const std::int64_t sizeY = atom(y).size;
        if (sizeX == sizeY) {
            if (x != y) uniteAtoms(x, y);
            a = resolve(tail(a));
            b = resolve(tail(b));
            continue;
        }
        const std::int64_t common = std::gcd(sizeX, sizeY);
        if (common == 1) throw AxisConflict(fmt::format("{} meets {}", sizes(first), sizes(second)));
        if (common < sizeX) split(x, common);
        if (common < sizeY) split(y, common);
        a = resolve(a);
        b = resolve(b);
    }
}

void AxisStore::uniteAtoms(AtomId a, AtomId b) {
    a = representative(a);
    b = representative(b);
    if (a == b) return;
    if (atom(a).kind != Kind::leaf && atom(b).kind == Kind::leaf) std::swap(a, b);
    if (atom(a).kind == Kind::leaf) {
        const std::set<std::string> frozen = std::move(atom(a).frozen);
        atom(a).frozen.clear();
        atom(a).parent = b;
        for (AtomId below : leaves({b})) atom(below).frozen.insert(frozen.begin(), frozen.end());
        return;
    }
    if (atom(a).kind == Kind::product || atom(b).kind == Kind::product) {
        unify({a}, {b});
        return;
    }
    uniteSums(a, b);
}

// Brings two concatenations to common boundaries, part by part.
void AxisStore::uniteSums(AtomId a, AtomId b) {
    std::vector<Axis> left = partsOf(a);
    std::vector<Axis> right = partsOf(b);
    std::size_t i = 0, j = 0;
    while (i < left.size() && j < right.size()) {
        const std::int64_t sizeLeft = size(left[i]);
        const std::int64_t sizeRight = size(right[j]);
        if (sizeLeft == sizeRight) {
            unify(left[i++], right[j++]);
        } else if (sizeLeft > sizeRight) {
            auto [head, rest] = cut(left[i], sizeRight);
            unify(head, right[j++]);
            left[i] = std::move(rest);
        } else {
            auto [head, rest] = cut(right[j], sizeLeft);
            unify(left[i++], head);
            right[j] = std::move(rest);
        }
    }
    a = representative(a);
    b = representative(b);
    if (a != b && atom(a).kind == Kind::sum && atom(b).kind == Kind::sum) atom(a).parent = b;
}

void AxisStore::freeze(const Axis& axis, const std::string& reason) {
    for (AtomId leaf : leaves(axis)) atom(leaf).frozen.insert(reason);
}

std::set<std::string> AxisStore::frozenReasons(AtomId leaf) const {
    std::set<std::string> reasons;
    for (AtomId below : leaves({leaf})) reasons.insert(atom(below).frozen.begin(), atom(below).frozen.end());
    return reasons;
}

std::vector<bool> AxisStore::mask(const Axis& axis, const KeepMasks& keep) const {
    std::vector<bool> result{true};
    for (AtomId id : resolve(axis)) {
        std::vector<bool> minor;
        if (atom(id).kind == Kind::sum) {
            for (const Axis& part : atom(id).children) {
                const std::vector<bool> piece = mask(part, keep);
                minor.insert(minor.end(), piece.begin(), piece.end());
            }
        } else if (const auto found = keep.find(id); found != keep.end()) {
            TCOMPRESS_CHECK(static_cast<std::int64_t>(found->second.size()) == atom(id).size,
                            "a mask has the size of its leaf");
            minor = found->second;
        } else {
            minor.assign(static_cast<std::size_t>(atom(id).size), true);
        }
        std::vector<bool> product;
        product.reserve(result.size() * minor.size());
        for (bool outer : result) {
            for (bool inner : minor) product.push_back(outer && inner);
        }
        result = std::move(product);
    }
    return result;
}

std::int64_t AxisStore::keptSize(const Axis& axis, const KeepMasks& keep) const {
    std::int64_t product = 1;
    for (AtomId id : resolve(axis)) {
        if (atom(id).kind == Kind::sum) {
            std::int64_t sum = 0;
            for (const Axis& part : atom(id).children) sum += keptSize(part, keep);
            product *= sum;
        } else if (const auto found = keep.find(id); found != keep.end()) {
            product *= std::count(found->second.begin(), found->second.end(), true);
        } else {
            product *= atom(id).size;
        }
    }
    return product;
}

bool AxisStore::touches(const Axis& axis, const KeepMasks& keep) const {
    const std::vector<AtomId> below = leaves(axis);
    return std::any_of(below.begin(), below.end(), [&](AtomId leaf) { return keep.count(leaf) != 0; });
}

std::string AxisStore::describe(const Axis& axis) const {
    std::string text;
    for (AtomId id : resolve(axis)) {
        if (!text.empty()) text += '*';
        if (atom(id).kind == Kind::leaf) {
            text += fmt::format("{}#{}", atom(id).size, id);
            continue;
        }
        std::string sum;
        for (const Axis& part : partsOf(id))
            sum += fmt::format("{}{}", sum.empty() ? "(" : "+", describe(part));
        text += sum + ')';
    }
    return text.empty() ? "1" : text;
}

std::string AxisStore::sizes(const Axis& axis) const {
    std::string text;
    for (AtomId id : resolve(axis)) text += fmt::format("{}{}", text.empty() ? "" : "·", atom(id).size);
    return text.empty() ? "1" : text;
}

}  // namespace tcompress::analysis
