#pragma once
// What can be gathered about values while a model runs on calibration data. A statistic sees its values batch
// by batch and keeps sums only, so its memory does not depend on the number of samples. What it adds must
// depend on the batches and their order alone, never on the number of threads.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/ir/model.h"

namespace tcompress::calibration {

/// Which of two models that run in lock-step; a model that runs alone is the edited one.
enum class Side { edited, original };

/// A value of one of the models.
struct Source {
    Source(const ir::Value* itsValue, Side itsSide = Side::edited) : value(itsValue), side(itsSide) {}
    bool operator==(const Source&) const = default;

    const ir::Value* value;
    Side side;
};

/// A value in one batch, seen as rows × channels, row-major and dense: channels are its last axis, rows all
/// the others. Rows of padding are left out (token_mask.h) unless a statistic asks for them, so the number of
/// rows varies; it may be 0.
struct Rows {
    std::int64_t rows = 0;
    std::int64_t channels = 0;
    std::span<const float> values;

    std::span<const float> row(std::int64_t index) const {
        return values.subspan(static_cast<std::size_t>(index * channels), static_cast<std::size_t>(channels));
    }
};

/// Which rows a statistic gets: those of tokens, or padding too (what a range measured on each run is made of).
enum class RowsSeen { tokens, all };

class Archive;

class Statistic {
  public:
    virtual ~Statistic() = default;
    /// The values it looks at; asked for once.
    virtual std::vector<Source> sources() const = 0;
    virtual RowsSeen rowsSeen() const { return RowsSeen::tokens; }
    /// The sources in one batch, in their order. The rows are valid during the call.
    virtual void add(std::span<const Rows> sources) = 0;

    /// The kind of statistic with its settings, sources left out: "histogram in 4096 cells". Two statistics
    /// of one kind and the same sources are the same. Empty: it is never kept from run to run.
    virtual std::string kind() const { return {}; }
    /// All fields that add() changes, to be kept and restored. A statistic with a kind must have it.
    virtual void transfer(Archive& archive) { static_cast<void>(archive); }
};

}  // namespace tcompress::calibration
