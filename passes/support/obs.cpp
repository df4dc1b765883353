#include "passes/support/obs.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/linalg.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

using kernels::Transposition;
using kernels::Triangle;

/// The inverse and the weights of the inputs that are still there. Rows of removed inputs stay in place until
/// an eighth is gone, then the matrices are packed: most steps touch nothing but what they update.
class Surgeon {
  public:
    explicit Surgeon(RemovalProblem problem)
        : size_(static_cast<std::int64_t>(problem.weights.size()) / problem.outputs),
          outputs_(problem.outputs),
          inverse_(std::move(problem.hessian)),
          weights_(std::move(problem.weights)),
          groups_(std::move(problem.groups)),
          isGone_(static_cast<std::size_t>(size_)) {
        kernels::invertPositiveDefinite(inverse_, size_);
    }

    /// Adds what each group's removal costs; those that are gone are left as they are.
    void addCosts(std::vector<double>& costs) const {
        constexpr std::int64_t kGroupsAtOnce = 64;
        parallelRanges(static_cast<std::int64_t>(groups_.size()), kGroupsAtOnce,
                       [&](std::int64_t begin, std::int64_t end) {
                           for (std::int64_t g = begin; g < end; ++g) {
                               const auto& group = groups_[static_cast<std::size_t>(g)];
                               if (!group.empty()) costs[static_cast<std::size_t>(g)] += cost(group);
                           }
                       });
    }

    void remove(std::size_t index) {
        const std::vector<std::int64_t> group = std::exchange(groups_[index], {});
        const auto width = static_cast<std::int64_t>(group.size());
        const Whitened whitened = whiten(group);
        // U = P_:S · L⁻ᵀ, so that P_:S·P_SS⁻¹·P_S: = U·Uᵀ and P_:S·P_SS⁻¹·W_S = U·V.
        std::vector<double> u(static_cast<std::size_t>(width * size_));
        for (std::int64_t k = 0; k < width; ++k)
            std::copy_n(inverse_.begin() + group[static_cast<std::size_t>(k)] * size_, size_,
                        u.begin() + k * size_);
        kernels::solveTriangular(Triangle::lower, Transposition::no, whitened.factor, width, u, size_);
        constexpr std::int64_t kRowsAtOnce = 64;
        parallelRanges(size_, kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) {
                if (isGone_[static_cast<std::size_t>(row)]) continue;
                for (std::int64_t k = 0; k < width; ++k) {
                    const double factor = u[static_cast<std::size_t>(k * size_ + row)];
                    subtract(inverse_, row * size_, u, k * size_, factor, size_);
                    subtract(weights_, row * outputs_, whitened.weights, k * outputs_, factor, outputs_);
                }
            }
        });
        for (const std::int64_t row : group) isGone_[static_cast<std::size_t>(row)] = true;
        if (std::count(isGone_.begin(), isGone_.end(), true) * 8 > size_) pack();
    }

  private:
    /// P_SS = L·Lᵀ and V = L⁻¹·W_S.
    struct Whitened {
        std::vector<double> factor, weights;
    };
    Whitened whiten(const std::vector<std::int64_t>& group) const {
        const auto width = static_cast<std::int64_t>(group.size());
        Whitened result;
        for (const std::int64_t row : group) {
            for (const std::int64_t column : group)
                result.factor.push_back(inverse_[static_cast<std::size_t>(row * size_ + column)]);
            result.weights.insert(result.weights.end(), weights_.begin() + row * outputs_,
                                  weights_.begin() + (row + 1) * outputs_);
        }
        kernels::cholesky(result.factor, width);
        kernels::solveTriangular(Triangle::lower, Transposition::no, result.factor, width, result.weights,
                                 outputs_);
        return result;
    }

    double cost(const std::vector<std::int64_t>& group) const {
        double sum = 0;
        if (group.size() == 1) {
            const std::int64_t row = group.front();
            for (std::int64_t c = 0; c < outputs_; ++c) {
                const double value = weights_[static_cast<std::size_t>(row * outputs_ + c)];
                sum += value * value;
            }
            return sum / inverse_[static_cast<std::size_t>(row * size_ + row)];
        }
        for (const double value : whiten(group).weights) sum += value * value;
        return sum;
    }

    static void subtract(std::vector<double>& target, std::int64_t to, const std::vector<double>& source,
                         std::int64_t from, double factor, std::int64_t count) {
        double* const a = target.data() + to;
        const double* const b = source.data() + from;
        for (std::int64_t i = 0; i < count; ++i) a[i] -= factor * b[i];
    }

    void pack() {
        std::vector<std::int64_t> place(isGone_.size(), -1);
        std::vector<std::int64_t> left;
        for (std::int64_t row = 0; row < size_; ++row)
            if (!isGone_[static_cast<std::size_t>(row)]) {
                place[static_cast<std::size_t>(row)] = static_cast<std::int64_t>(left.size());
                left.push_back(row);
            }
        // Forwards and never ahead of what is read, so in place.
        std::size_t next = 0;
        for (const std::int64_t row : left)
            for (const std::int64_t column : left)
                inverse_[next++] = inverse_[static_cast<std::size_t>(row * size_ + column)];
        for (std::size_t i = 0; i < left.size(); ++i)
            std::copy_n(weights_.begin() + left[i] * outputs_, outputs_,
                        weights_.begin() + static_cast<std::int64_t>(i) * outputs_);
        for (auto& group : groups_)
            for (std::int64_t& row : group) row = place[static_cast<std::size_t>(row)];
        size_ = static_cast<std::int64_t>(left.size());
        inverse_.resize(next);
        weights_.resize(static_cast<std::size_t>(size_ * outputs_));
        isGone_.assign(static_cast<std::size_t>(size_), false);
    }

    std::int64_t size_, outputs_;
    std::vector<double> inverse_, weights_;
    std::vector<std::vector<std::int64_t>> groups_;
    std::vector<bool> isGone_;
};

}  // namespace

RemovalOrder removalOrder(std::vector<RemovalProblem> problems, std::size_t count) {
    TCOMPRESS_CHECK(!problems.empty(), "no layer reads the structures");
    const std::size_t groups = problems.front().groups.size();
    TCOMPRESS_CHECK(count <= groups, "more groups to remove than there are");
    std::vector<Surgeon> surgeons;
    for (RemovalProblem& problem : problems) surgeons.emplace_back(std::move(problem));
    RemovalOrder order;
    std::vector<bool> isGone(groups);
    double lost = 0;
    while (order.groups.size() < count) {
        std::vector<double> costs(groups);
        for (std::size_t g = 0; g < groups; ++g)
            if (isGone[g]) costs[g] = std::numeric_limits<double>::infinity();
        for (const Surgeon& surgeon : surgeons) surgeon.addCosts(costs);
        const auto cheapest =
            static_cast<std::size_t>(std::min_element(costs.begin(), costs.end()) - costs.begin());
        lost += costs[cheapest];
        order.groups.push_back(cheapest);
        order.error.push_back(lost);
        isGone[cheapest] = true;
        for (Surgeon& surgeon : surgeons) surgeon.remove(cheapest);
    }
    return order;
}

}  // namespace tcompress::passes
