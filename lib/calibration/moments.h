#pragma once
// Second moments of a value and, for least squares, of a target beside it: with XᵀX, XᵀY and ΣY² the squared
// error of any linear map from X to Y is a closed form, so that a solution can be judged on rows it was not
// fitted to without running a model again (passes/quantize/solver/layer_judge.h).

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/calibration/statistic.h"
#include "lib/calibration/stream.h"
#include "lib/data/split.h"
#include "lib/support/progress.h"

namespace tcompress::calibration {

/// Y = Σ coefficient · value, over values of one shape.
struct Term {
    double coefficient = 1;
    Source source;
};
using Target = std::vector<Term>;

/// What to gather: X, whose n channels are its last axis, and any number of targets Y with as many rows and m
/// channels (m may differ from target to target). No targets: the plain second moments of X.
struct MomentsRequest {
    Source x;
    std::vector<Target> targets = {};
};

/// Sums over rows, float64, row-major. Divide by `rows` for means.
struct Moments {
    /// The part of one target Y.
    struct Cross {
        std::int64_t outputs = 0;     ///< m
        std::vector<double> sum;      ///< [m] Σ y
        std::vector<double> squares;  ///< [m] Σ y², the diagonal of YᵀY
        std::vector<double> product;  ///< [n, m] XᵀY
    };
    std::int64_t rows = 0;
    std::int64_t inputs = 0;   ///< n
    std::vector<double> sum;   ///< [n] Σ x
    std::vector<double> gram;  ///< [n, n] XᵀX, exactly symmetric
    std::vector<Cross> targets;
    /// Adds the sums over other rows.
    Moments& operator+=(const Moments& other);
};

class MomentSums : public Statistic {
  public:
    explicit MomentSums(MomentsRequest request);
    /// Of size 0 when no row was seen.
    const Moments& result() const { return moments_; }
    /// The same, moved out: gram matrices are large.
    Moments take() { return std::move(moments_); }

    std::vector<Source> sources() const override;
    void add(std::span<const Rows> sources) override;
    std::string kind() const override;
    void transfer(Archive& archive) override;

  private:
    MomentsRequest request_;
    Moments moments_;
};

/// The moments of every request on the way from the stream's cut.
std::vector<Moments> collectMoments(Stream& stream, const std::vector<MomentsRequest>& requests,
                                    Progress& progress);

/// Moments of the rows to fit to, and of rows held back to choose by (empty when nothing is held back).
struct SplitMoments {
    Moments fit, heldBack;
};

/// The moments of every request, in one pass over each part of the split. For targets that are values of
/// `original` both models run in lock-step; it may be the same model as `edited`.
std::vector<SplitMoments> collectMoments(const ir::Model& original, const ir::Model& edited,
                                         const std::vector<MomentsRequest>& requests,
                                         const data::Split& split, Progress& progress,
                                         const Resources& resources = {});

}  // namespace tcompress::calibration
