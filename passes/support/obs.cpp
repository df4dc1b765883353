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

/// The inverse and the weights of the inputs that are still there. Removals wait in a panel and are taken off the
/// matrices many at a time, so that nearly all work is in products of matrices:
///
///   P = stored P − UᵀU,   W = stored W − UᵀV,   a removal of S adds the rows  U = L⁻¹·P_S:,  V = L⁻¹·W_S,  L·Lᵀ = P_SS
///
/// With a metric A = L·Lᵀ of the outputs all this is done with W·L, whose squares are what counts.
///
/// Where each structure is one input its cost ‖W_i‖² / P_ii is kept up to date meanwhile. Rows of removed inputs stay in
/// place until an eighth is gone, then the matrices are packed.
class Surgeon {
  public:
    explicit Surgeon(RemovalProblem problem)
        : size_(static_cast<std::int64_t>(problem.weights.size()) / problem.outputs),
          outputs_(problem.outputs),
          inverse_(std::move(problem.hessian)),
          weights_(std::move(problem.weights)),
          groups_(std::move(problem.groups)),
          isGone_(static_cast<std::size_t>(size_)),
          isNarrow_(std::all_of(groups_.begin(), groups_.end(), [](const auto& group) { return group.size() <= 1; })) {
        kernels::invertPositiveDefinite(inverse_, size_);
        if (!problem.metric.empty()) {
            metricFactor_ = std::move(problem.metric);
            kernels::cholesky(metricFactor_, outputs_);
            std::vector<double> counted(weights_.size());
            kernels::gemm(Transposition::no, Transposition::no, size_, outputs_, outputs_, weights_, metricFactor_, counted);
            weights_ = std::move(counted);
        }
        measure();
    }

    /// Adds what each group's removal costs; those that are gone are left as they are.
    void addCosts(std::vector<double>& costs) const {
        if (isNarrow_) {
            for (std::size_t g = 0; g < groups_.size(); ++g)
                if (!groups_[g].empty()) {
                    const auto row = static_cast<std::size_t>(groups_[g].front());
                    costs[g] += std::max(norms_[row], 0.0) / diagonal_[row];
                }
            return;
        }
        parallelFor(std::ssize(groups_), [&](std::int64_t index) {
            const auto g = static_cast<std::size_t>(index);
            if (groups_[g].empty()) return;
            double sum = 0;
            for (const double value : removal(groups_[g]).weights) sum += value * value;
            costs[g] += sum;
        });
    }

    void remove(std::size_t index) {
        const std::vector<std::int64_t> group = std::exchange(groups_[index], {});
        if (group.empty()) return;
        Removal removed = removal(group);
        const auto width = static_cast<std::int64_t>(group.size());
        std::vector<double> rows = presentRows(inverse_, size_, panel_, group);
        kernels::solveTriangular(Triangle::lower, Transposition::no, removed.factor, width, rows, size_);
        if (isNarrow_) follow(rows, removed.weights);
        panel_.insert(panel_.end(), rows.begin(), rows.end());
        weightPanel_.insert(weightPanel_.end(), removed.weights.begin(), removed.weights.end());
        for (const std::int64_t row : group) isGone_[static_cast<std::size_t>(row)] = true;
        if (!isNarrow_ || waiting() >= kPanelRows) flush();
    }

    /// The weights of the inputs that stay.
    std::vector<double> weights() {
        flush();
        std::vector<double> result;
        for (std::int64_t row = 0; row < size_; ++row)
            if (!isGone_[static_cast<std::size_t>(row)])
                result.insert(result.end(), weights_.begin() + row * outputs_, weights_.begin() + (row + 1) * outputs_);
        return metricFactor_.empty() ? result : withoutMetric(result);
    }

  private:
    static constexpr std::int64_t kPanelRows = 64;

    std::int64_t waiting() const { return static_cast<std::int64_t>(panel_.size()) / size_; }

    /// The W of W·L: Lᵀ·Wᵀ = (W·L)ᵀ.
    std::vector<double> withoutMetric(const std::vector<double>& counted) const {
        std::vector<double> turned = turn(counted, outputs_);
        const auto rows = static_cast<std::int64_t>(counted.size()) / outputs_;
        kernels::solveTriangular(Triangle::lower, Transposition::yes, metricFactor_, outputs_, turned, rows);
        return turn(turned, rows);
    }

    static std::vector<double> turn(const std::vector<double>& matrix, std::int64_t columns) {
        std::vector<double> turned;
        turned.reserve(matrix.size());
        for (std::int64_t column = 0; column < columns; ++column)
            for (auto place = static_cast<std::size_t>(column); place < matrix.size(); place += static_cast<std::size_t>(columns))
                turned.push_back(matrix[place]);
        return turned;
    }

    /// Rows of stored − panelᵀ·other, where the panel that the columns are of is `other`.
    std::vector<double> presentRows(const std::vector<double>& stored, std::int64_t columns,
                                    const std::vector<double>& other, const std::vector<std::int64_t>& rows) const {
        const auto width = static_cast<std::int64_t>(rows.size());
        std::vector<double> result, factors;
        for (const std::int64_t row : rows)
            result.insert(result.end(), stored.begin() + row * columns, stored.begin() + (row + 1) * columns);
        if (panel_.empty()) return result;
        for (const std::int64_t row : rows)
            for (std::int64_t k = 0; k < waiting(); ++k)
                factors.push_back(panel_[static_cast<std::size_t>(k * size_ + row)]);
        kernels::subtractProduct(Transposition::no, Transposition::no, width, columns, waiting(), factors, other, result);
        return result;
    }

    /// P_SS = L·Lᵀ and V = L⁻¹·W_S.
    struct Removal {
        std::vector<double> factor, weights;
    };
    Removal removal(const std::vector<std::int64_t>& group) const {
        const auto width = static_cast<std::int64_t>(group.size());
        Removal result;
        for (const std::int64_t row : group)
            for (const std::int64_t column : group) {
                double value = inverse_[static_cast<std::size_t>(row * size_ + column)];
                for (std::int64_t k = 0; k < waiting(); ++k)
                    value -= panel_[static_cast<std::size_t>(k * size_ + row)] *
                             panel_[static_cast<std::size_t>(k * size_ + column)];
                result.factor.push_back(value);
            }
        kernels::cholesky(result.factor, width);
        result.weights = presentRows(weights_, outputs_, weightPanel_, group);
        kernels::solveTriangular(Triangle::lower, Transposition::no, result.factor, width, result.weights, outputs_);
        return result;
    }

    /// Diagonal and norms once u and v have joined the panel: P_rr − u_r², ‖W_r − u_r·v‖².
    void follow(const std::vector<double>& u, const std::vector<double>& v) {
        std::vector<double> products(static_cast<std::size_t>(size_));
        kernels::gemm(Transposition::no, Transposition::no, size_, 1, outputs_, weights_, v, products);
        if (!panel_.empty()) {
            std::vector<double> pending(static_cast<std::size_t>(waiting()));
            kernels::gemm(Transposition::no, Transposition::no, waiting(), 1, outputs_, weightPanel_, v, pending);
            kernels::subtractProduct(Transposition::no, Transposition::no, 1, size_, waiting(), pending, panel_, products);
        }
        double squared = 0;
        for (const double value : v) squared += value * value;
        for (std::size_t r = 0; r < products.size(); ++r) {
            diagonal_[r] -= u[r] * u[r];
            norms_[r] += u[r] * (u[r] * squared - 2 * products[r]);
        }
    }

    void flush() {
        if (panel_.empty()) return;
        kernels::subtractProduct(Transposition::yes, Transposition::no, size_, size_, waiting(), panel_, panel_, inverse_);
        kernels::subtractProduct(Transposition::yes, Transposition::no, size_, outputs_, waiting(), panel_, weightPanel_,
                                 weights_);
        panel_.clear();
        weightPanel_.clear();
        if (std::count(isGone_.begin(), isGone_.end(), true) * 8 > size_) pack();
        measure();
    }

    /// Norms and diagonal as they are, so that rounding of the updates does not add up.
    void measure() {
        if (!isNarrow_) return;
        diagonal_.resize(static_cast<std::size_t>(size_));
        norms_.resize(static_cast<std::size_t>(size_));
        constexpr std::int64_t kRowsAtOnce = 64;
        parallelRanges(size_, kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t row = begin; row < end; ++row) {
                diagonal_[static_cast<std::size_t>(row)] = inverse_[static_cast<std::size_t>(row * size_ + row)];
                double sum = 0;
                for (std::int64_t c = 0; c < outputs_; ++c) {
                    const double value = weights_[static_cast<std::size_t>(row * outputs_ + c)];
                    sum += value * value;
                }
                norms_[static_cast<std::size_t>(row)] = sum;
            }
        });
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
    std::vector<double> inverse_, weights_, metricFactor_;
    std::vector<double> panel_, weightPanel_;  ///< U [waiting, size], V [waiting, outputs]
    std::vector<double> diagonal_, norms_;
    std::vector<std::vector<std::int64_t>> groups_;
    std::vector<bool> isGone_;
    bool isNarrow_;
};

}  // namespace

RemovalOrder removalOrder(std::vector<RemovalProblem> problems, std::size_t count, const RemovalVisitor& visitor) {
    TCOMPRESS_CHECK(!problems.empty(), "no layer reads the structures");
    const std::size_t groups = problems.front().groups.size();
    TCOMPRESS_CHECK(count <= groups, "more groups to remove than there are");
    std::vector<Surgeon> surgeons;
    for (RemovalProblem& problem : problems) surgeons.emplace_back(std::move(problem));
    RemovalOrder order;
    std::vector<bool> isGone(groups);
    double lost = 0;
    std::size_t visited = 0;
    const auto visit = [&] {
        while (visited < visitor.after.size() && visitor.after[visited] == order.groups.size()) {
            std::vector<std::vector<double>> weights;
            for (Surgeon& surgeon : surgeons) weights.push_back(surgeon.weights());
            visitor.visit(visited++, order, weights);
        }
    };
    visit();
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
        visit();
    }
    return order;
}

}  // namespace tcompress::passes
