#pragma once
// Axes as ordered lists of atoms, major to minor, and the relations between them. An atom is a Leaf (an
// indivisible index range), a Prod (a range that is the row-major product of its children: heads × head size)
// or a Sum (a concatenation of axes: q ‖ k ‖ v). Atoms are refined in place and united by union-find, so that
// what was labelled earlier sees every later refinement. An axis of size 1 is the empty list. See
// docs/recognition.md for the algorithm.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tcompress::analysis {

using AtomId = std::int32_t;
using Axis = std::vector<AtomId>;
/// Which positions of a leaf stay, by representative leaf. A leaf that is not listed stays whole.
using KeepMasks = std::map<AtomId, std::vector<bool>>;

/// Two axes that should be one cannot be brought to a common refinement; the text says which sizes met.
class AxisConflict {
  public:
    explicit AxisConflict(std::string reason) : reason_(std::move(reason)) {}
    const std::string& reason() const { return reason_; }

  private:
    std::string reason_;
};

class AxisStore {
  public:
    /// A fresh axis of one leaf (empty for size 1).
    Axis axis(std::int64_t size);
    std::int64_t size(const Axis& axis) const;
    /// Product atoms expanded, representatives found: leaves and sums only.
    Axis resolve(const Axis& axis) const;
    /// All leaves below, in order, through sums too. A leaf that occurs twice is listed twice.
    std::vector<AtomId> leaves(const Axis& axis) const;
    std::int64_t leafSize(AtomId leaf) const;
    AtomId representative(AtomId atom) const;

    /// Concatenation of axes. Parts of size 0 are left out.
    Axis concatenate(const std::vector<Axis>& parts);
    /// The parts of an axis that is one Sum, nested sums flattened; the axis itself as the only part
    /// otherwise.
    std::vector<Axis> parts(const Axis& axis) const;
    /// The first part of product `size`, and the rest. Throws AxisConflict.
    std::pair<Axis, Axis> take(const Axis& axis, std::int64_t size);
    /// The index range [begin, end) of an axis. Throws AxisConflict.
    Axis slice(const Axis& axis, std::int64_t begin, std::int64_t end);
    /// States that both are the same axis. Throws AxisConflict; what was united before the conflict stays
    /// united, so the caller must freeze both.
    void unify(const Axis& a, const Axis& b);

    /// Brings every atom next to its representative: chains of unions grow as long as the model.
    void flatten();

    /// Forbids removing anything from these leaves; the reason is kept for messages. What they are united
    /// with or split into later is frozen too.
    void freeze(const Axis& axis, const std::string& reason);
    std::set<std::string> frozenReasons(AtomId leaf) const;

    /// The one slicing rule: which positions of the axis stay (Kronecker over atoms, concatenation over
    /// sums).
    std::vector<bool> mask(const Axis& axis, const KeepMasks& keep) const;
    std::int64_t keptSize(const Axis& axis, const KeepMasks& keep) const;
    /// True when a leaf of the axis is listed in `keep`.
    bool touches(const Axis& axis, const KeepMasks& keep) const;
    /// "8#12*16#13": sizes and leaf numbers, "(…+…)" for a sum, "1" for the empty axis: for diagnostics.
    std::string describe(const Axis& axis) const;

  private:
    enum class Kind { leaf, product, sum };
    struct Atom {
        AtomId parent = -1;  ///< itself for a representative
        Kind kind = Kind::leaf;
        std::int64_t size = 0;
        std::vector<Axis> children;  ///< product: one axis; sum: its parts
        std::set<std::string> frozen;
    };

    AtomId addLeaf(std::int64_t size);
    const Atom& atom(AtomId id) const { return atoms_[static_cast<std::size_t>(id)]; }
    Atom& atom(AtomId id) { return atoms_[static_cast<std::size_t>(id)]; }
    void resolveInto(const Axis& axis, Axis& out) const;
    void leavesInto(const Axis& axis, std::vector<AtomId>& out) const;
    void partsInto(AtomId sum, std::vector<Axis>& out) const;
    std::vector<Axis> partsOf(AtomId sum) const;

    /// Turns an atom into a product whose major part has the given size.
    void split(AtomId id, std::int64_t majorSize);
    void splitSum(AtomId id, std::int64_t majorSize);
    /// The positions before and from `at` on, 0 < at < size.
    std::pair<Axis, Axis> cut(const Axis& axis, std::int64_t at);
    void uniteAtoms(AtomId a, AtomId b);
    void uniteSums(AtomId a, AtomId b);
    /// Gives a former leaf its children; they inherit what froze it.
    void refine(AtomId leaf, Kind kind, std::vector<Axis> children);
    std::string sizes(const Axis& axis) const;

    std::vector<Atom> atoms_;
};

}  // namespace tcompress::analysis
