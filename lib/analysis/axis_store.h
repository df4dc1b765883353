#pragma once
// Axes as ordered lists of atoms, major to minor, and the relations between them. An atom is a Leaf (an indivisible index
// range), a Prod (a range that is the row-major product of its children: heads × head size) or a Sum (a concatenation
// of axes: q ‖ k ‖ v). Atoms are refined in place and united by union-find, so that what was labelled earlier sees
// every later refinement. An axis of size 1 is the empty list. See docs/recognition.md for the algorithm.

#include <cstdint>
#include <map>
#include <set>
#include <string>
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
    /// Product atoms expanded, representatives found.
    Axis resolve(const Axis& axis) const;
    /// All leaves below, in order, through sums too.
    std::vector<AtomId> leaves(const Axis& axis) const;
    std::int64_t leafSize(AtomId leaf) const;
    AtomId representative(AtomId atom) const;

    /// Concatenation of axes.
    Axis concatenate(const std::vector<Axis>& parts);
    /// The first part of product `size`, and the rest. Throws AxisConflict.
    std::pair<Axis, Axis> take(const Axis& axis, std::int64_t size);
    /// The index range [begin, end) of an axis. Throws AxisConflict.
    Axis slice(const Axis& axis, std::int64_t begin, std::int64_t end);
    /// States that both are the same axis. Throws AxisConflict.
    void unify(const Axis& a, const Axis& b);

    /// Forbids removing anything from these leaves; the reason is kept for messages.
    void freeze(const Axis& axis, const std::string& reason);
    std::set<std::string> frozenReasons(AtomId leaf) const;

    /// The one slicing rule: which positions of the axis stay (Kronecker over atoms, concatenation over sums).
    std::vector<bool> mask(const Axis& axis, const KeepMasks& keep) const;
    std::int64_t keptSize(const Axis& axis, const KeepMasks& keep) const;
    bool touches(const Axis& axis, const KeepMasks& keep) const;
    /// "8#12*16#13": sizes and leaf numbers, for diagnostics.
    std::string describe(const Axis& axis) const;

  private:
    enum class Kind { leaf, product, sum };
    struct Atom {
        AtomId parent = -1;
        Kind kind = Kind::leaf;
        std::int64_t size = 0;
        std::vector<Axis> children;  ///< product: one axis; sum: its parts
        std::set<std::string> frozen;
    };
    std::vector<Atom> atoms_;
    // Private helpers are declared by the implementation as needed.
};

}  // namespace tcompress::analysis
