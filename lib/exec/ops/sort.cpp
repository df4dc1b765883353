// Operators about order and position: TopK, NonZero, CumSum, CumProd, Unique.

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

Runner makeTopK(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", -1);
    const bool largest = info.attributes.integer("largest", 1) != 0;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        const std::int64_t size = x.shape()[axis];
        const std::int64_t count = integerScalar(context.input(1));
        if (count < 0 || count > size) throw ModelError(fmt::format("k is {} on an axis of {}", count, size));
        Shape shape = x.shape();
        shape[axis] = count;
        const std::int64_t outer = product(x.shape(), 0, axis);
        const std::int64_t inner = product(x.shape(), axis + 1, x.shape().size());
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto values = context.output<T>(0, shape);
            const auto indices = context.output<std::int64_t>(1, shape);
            std::vector<std::int64_t> order(static_cast<std::size_t>(size));
            for (std::int64_t row = 0; row < outer * inner; ++row) {
                const std::int64_t base = row / inner * size * inner + row % inner;
                const auto at = [&](std::int64_t i) { return source[static_cast<std::size_t>(base + i * inner)]; };
                std::iota(order.begin(), order.end(), 0);
                // Equal elements keep the order of their indices.
                std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](std::int64_t a, std::int64_t b) {
                    if (at(a) != at(b)) return largest ? at(a) > at(b) : at(a) < at(b);
                    return a < b;
                });
                for (std::int64_t i = 0; i < count; ++i) {
                    const auto target = static_cast<std::size_t>(row / inner * count * inner + i * inner + row % inner);
                    values[target] = at(order[static_cast<std::size_t>(i)]);
                    indices[target] = order[static_cast<std::size_t>(i)];
                }
            }
        });
    };
}

Runner makeNonZero(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        std::vector<std::int64_t> found;
        visitLogic(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            for (std::size_t i = 0; i < source.size(); ++i) {
                if (source[i] != T(0)) found.push_back(static_cast<std::int64_t>(i));
            }
        });
        const auto count = static_cast<std::int64_t>(found.size());
        const auto y = context.output<std::int64_t>(0, {x.rank(), count});
        for (std::int64_t i = 0; i < count; ++i) {
            std::int64_t rest = found[static_cast<std::size_t>(i)];
            for (std::size_t axis = x.shape().size(); axis-- > 0;) {
                y[axis * static_cast<std::size_t>(count) + static_cast<std::size_t>(i)] = rest % x.shape()[axis];
                rest /= x.shape()[axis];
            }
        }
    };
}

/// CumSum and CumProd: `Operation` folds the elements of the axis, starting from `neutral`.
template <class Operation, int neutral>
Runner makeCumulative(const NodeInfo& info) {
    const bool exclusive = info.attributes.integer("exclusive", 0) != 0;
    const bool reverse = info.attributes.integer("reverse", 0) != 0;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(integerScalar(context.input(1)), x.rank()));
        const std::int64_t size = x.shape()[axis];
        const std::int64_t inner = product(x.shape(), axis + 1, x.shape().size());
        const std::int64_t rows = size == 0 ? 0 : x.size() / size;
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto y = context.output<T>(0, x.shape());
            for (std::int64_t row = 0; row < rows; ++row) {
                const std::int64_t base = row / inner * size * inner + row % inner;
                T folded{neutral};
                for (std::int64_t i = 0; i < size; ++i) {
                    const auto at = static_cast<std::size_t>(base + (reverse ? size - 1 - i : i) * inner);
                    if (exclusive) y[at] = folded;
                    folded = static_cast<T>(Operation()(folded, source[at]));
                    if (!exclusive) y[at] = folded;
                }
            }
        });
    };
}

/// Unique elements of the flattened tensor or unique slices of an axis: values, first positions, inverse, counts.
Runner makeUnique(const NodeInfo& info) {
    const bool sorted = info.attributes.integer("sorted", 1) != 0;
    const bool flat = !info.attributes.has("axis");
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    return [=](OpContext& context) {
        const Tensor& given = context.input(0);
        const bool isBool = given.dtype() == DType::boolean;  // ordered as the bytes 0 and 1
        const Tensor x = Tensor::share(isBool ? DType::uint8 : given.dtype(), flat ? Shape{given.size()} : given.shape(), given.storage());
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        const std::int64_t size = x.shape()[axis];
        const std::int64_t outer = product(x.shape(), 0, axis);
        const std::int64_t inner = product(x.shape(), axis + 1, x.shape().size());
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto at = [&](std::int64_t o, std::int64_t i, std::int64_t k) {
                return source[static_cast<std::size_t>((o * size + i) * inner + k)];
            };
            const auto order = [&](std::int64_t a, std::int64_t b) {
                for (std::int64_t o = 0; o < outer; ++o) {
                    for (std::int64_t k = 0; k < inner; ++k) {
                        if (at(o, a, k) != at(o, b, k)) return at(o, a, k) < at(o, b, k) ? -1 : 1;
                    }
                }
                return 0;
            };
            std::vector<std::int64_t> slices(static_cast<std::size_t>(size));
            std::iota(slices.begin(), slices.end(), 0);
            std::stable_sort(slices.begin(), slices.end(), [&](auto a, auto b) { return order(a, b) < 0; });
            std::vector<std::int64_t> first;
            std::vector<std::int64_t> counts;
            std::vector<std::int64_t> group(slices.size());
            for (std::size_t i = 0; i < slices.size(); ++i) {
                if (i == 0 || order(slices[i - 1], slices[i]) != 0) {
                    first.push_back(slices[i]);
                    counts.push_back(0);
                }
                ++counts.back();
                group[static_cast<std::size_t>(slices[i])] = static_cast<std::int64_t>(first.size()) - 1;
            }
            std::vector<std::size_t> rank(first.size());
            std::iota(rank.begin(), rank.end(), 0);
            if (!sorted) std::sort(rank.begin(), rank.end(), [&](auto a, auto b) { return first[a] < first[b]; });
            std::vector<std::int64_t> position(first.size());
            for (std::size_t i = 0; i < rank.size(); ++i) position[rank[i]] = static_cast<std::int64_t>(i);
            Shape shape = x.shape();
            const auto found = static_cast<std::int64_t>(first.size());
            shape[axis] = found;
            const auto values = context.output<T>(0, shape);
            for (std::int64_t o = 0; o < outer; ++o) {
                for (std::int64_t i = 0; i < found; ++i) {
                    for (std::int64_t k = 0; k < inner; ++k) {
                        values[static_cast<std::size_t>((o * found + i) * inner + k)] =
                            at(o, first[rank[static_cast<std::size_t>(i)]], k);
                    }
                }
            }
            const auto emit = [&](std::size_t output, std::int64_t count, auto&& element) {
                if (!context.wants(output)) return;
                const auto y = context.output<std::int64_t>(output, {count});
                for (std::size_t i = 0; i < y.size(); ++i) y[i] = element(i);
            };
            if (isBool) context.setOutput(0, Tensor::share(given.dtype(), shape, context.outputTensor(0).storage()));
            emit(1, found, [&](std::size_t i) { return first[rank[i]]; });
            emit(2, size, [&](std::size_t i) { return position[static_cast<std::size_t>(group[i])]; });
            emit(3, found, [&](std::size_t i) { return counts[rank[i]]; });
        });
    };
}

const OperatorRow kRows[] = {
    {"", "TopK", 10, makeTopK, kNumericTypes},
    {"", "NonZero", 9, makeNonZero, kLogicTypes},
    {"", "CumSum", 11, makeCumulative<std::plus<>, 0>, kNumericTypes},
    {"", "CumProd", 26, makeCumulative<std::multiplies<>, 1>, kNumericTypes},
    {"", "Unique", 11, makeUnique, kLogicTypes},
};

}  // namespace

std::span<const OperatorRow> sortOperators() { return kRows; }

}  // namespace tcompress::exec
