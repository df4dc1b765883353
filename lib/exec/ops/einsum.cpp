// Einsum: operands are joined from the left, two at a time. A pair is brought to [batch, free, contracted] and [batch, contracted,
// free] by summing labels that only one of them has, taking diagonals, and transposing; then it is one batched product.

#include <algorithm>
#include <map>
#include <set>

#include "kernels/reduce.h"
#include "kernels/transpose.h"
#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

// Labels are letters; the axes of an ellipsis get the negative numbers from -1 (the last axis) on.
using Labels = std::vector<int>;

struct Labelled {
    Tensor tensor;
    Labels labels;
};

std::vector<std::string> splitAt(const std::string& text, char separator) {
    std::vector<std::string> parts{""};
    for (char c : text) {
        if (c == separator) {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    return parts;
}

Labels parseTerm(const std::string& term, std::int64_t ellipsisAxes) {
    Labels labels;
    for (std::size_t i = 0; i < term.size(); ++i) {
        if (term[i] != '.') {
            labels.push_back(term[i]);
            continue;
        }
        for (std::int64_t axis = ellipsisAxes; axis > 0; --axis) labels.push_back(static_cast<int>(-axis));
        i += 2;
    }
    return labels;
}

std::int64_t dimension(const Labelled& operand, int label) {
    const auto at = std::find(operand.labels.begin(), operand.labels.end(), label) - operand.labels.begin();
    return operand.tensor.shape()[static_cast<std::size_t>(at)];
}

bool has(const Labels& labels, int label) { return std::find(labels.begin(), labels.end(), label) != labels.end(); }

/// A label that stands twice in one operand selects its diagonal; an axis of 1 that others do not have as 1 is dropped.
Labelled diagonal(const Labelled& operand, const std::map<int, std::int64_t>& sizes) {
    const std::vector<std::int64_t> strides = stridesOf(operand.tensor.shape());
    Labelled result;
    Shape shape;
    std::vector<std::int64_t> from;
    for (std::size_t i = 0; i < operand.labels.size(); ++i) {
        const int label = operand.labels[i];
        if (operand.tensor.shape()[i] == 1 && sizes.at(label) != 1) continue;
        const auto at = std::find(result.labels.begin(), result.labels.end(), label);
        if (at != result.labels.end()) {
            from[static_cast<std::size_t>(at - result.labels.begin())] += strides[i];
            continue;
        }
        result.labels.push_back(label);
        shape.push_back(operand.tensor.shape()[i]);
        from.push_back(strides[i]);
    }
    if (result.labels.size() == operand.labels.size()) return operand;
    result.tensor = Tensor(operand.tensor.dtype(), shape);
    if (result.tensor.size() > 0) {
        kernels::copyStrided(typedBytes(operand.tensor), bitsPerElement(operand.tensor.dtype()) / 8, shape, from, stridesOf(shape),
                             result.tensor.mutableBytes().data());
    }
    return result;
}

/// Sums the labels that nobody needs any more.
Labelled summed(const Labelled& operand, const std::set<int>& needed) {
    std::vector<std::uint8_t> reduced;
    Labelled result;
    Shape shape;
    for (std::size_t i = 0; i < operand.labels.size(); ++i) {
        reduced.push_back(!needed.contains(operand.labels[i]));
        if (reduced.back()) continue;
        result.labels.push_back(operand.labels[i]);
        shape.push_back(operand.tensor.shape()[i]);
    }
    if (shape.size() == operand.labels.size()) return operand;
    result.tensor = Tensor(operand.tensor.dtype(), shape);
    visitNumeric(operand.tensor.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        if constexpr (sizeof(T) == 2) {
            refuseType(operand.tensor.dtype());
        } else {
            kernels::reduce<T>(kernels::ReduceOp::sum, operand.tensor.data<T>().data(), operand.tensor.shape(), reduced,
                               result.tensor.mutableData<T>().data());
        }
    });
    return result;
}

Labelled ordered(const Labelled& operand, const Labels& order) {
    std::vector<std::int64_t> permutation;
    for (int label : order) permutation.push_back(std::find(operand.labels.begin(), operand.labels.end(), label) - operand.labels.begin());
    return {tcompress::transpose(operand.tensor, permutation), order};
}

Labels joined(std::initializer_list<const Labels*> parts) {
    Labels all;
    for (const Labels* part : parts) all.insert(all.end(), part->begin(), part->end());
    return all;
}

std::int64_t count(const Labelled& operand, const Labels& labels) {
    std::int64_t result = 1;
    for (int label : labels) result *= dimension(operand, label);
    return result;
}

/// `needed`: labels of the result and of operands still to come.
Labelled contract(const Labelled& left, const Labelled& right, const std::set<int>& needed) {
    std::set<int> ofLeft(needed), ofRight(needed);
    ofLeft.insert(right.labels.begin(), right.labels.end());
    ofRight.insert(left.labels.begin(), left.labels.end());
    const Labelled a = summed(left, ofLeft);
    const Labelled b = summed(right, ofRight);
    Labels batch, contracted, freeA, freeB;
    for (int label : a.labels) (has(b.labels, label) ? (needed.contains(label) ? batch : contracted) : freeA).push_back(label);
    for (int label : b.labels) {
        if (!has(a.labels, label)) freeB.push_back(label);
    }
    const Labelled first = ordered(a, joined({&batch, &freeA, &contracted}));
    const Labelled second = ordered(b, joined({&batch, &contracted, &freeB}));
    const std::int64_t batches = count(a, batch), m = count(a, freeA), k = count(a, contracted), n = count(b, freeB);
    const MatmulGeometry geometry = matmulGeometry({batches, m, k}, {batches, k, n});
    Labelled result;
    result.labels = joined({&batch, &freeA, &freeB});
    Shape shape;
    for (int label : batch) shape.push_back(dimension(a, label));
    for (int label : freeA) shape.push_back(dimension(a, label));
    for (int label : freeB) shape.push_back(dimension(b, label));
    result.tensor = Tensor(a.tensor.dtype(), shape);
    multiplyInto(geometry, first.tensor, second.tensor, result.tensor.mutableBytes().data());
    return result;
}

Runner makeEinsum(const NodeInfo& info) {
    std::string equation = info.attributes.text("equation", "");
    std::erase(equation, ' ');
    const std::size_t arrow = equation.find("->");
    const std::vector<std::string> terms = splitAt(equation.substr(0, arrow), ',');
    const std::optional<std::string> target = arrow == std::string::npos ? std::nullopt : std::optional(equation.substr(arrow + 2));
    return [=](OpContext& context) {
        if (terms.size() != context.inputCount()) throw ModelError(fmt::format("equation '{}' has {} operands", equation, terms.size()));
        std::vector<Labelled> operands;
        std::map<int, std::int64_t> sizes;
        std::int64_t ellipsis = 0;
        for (std::size_t i = 0; i < terms.size(); ++i) {
            const DType type = context.input(i).dtype();
            if (type != context.input(0).dtype()) throw ModelError(fmt::format("operands of '{}' differ in type", equation));
            // The products know these types; shorter integers wrap around alike when they come back from int64.
            const bool isNarrow = isInteger(type) && type != DType::int32;
            const Tensor tensor = isNarrow ? convert(context.input(i), DType::int64) : context.input(i);
            const bool open = terms[i].find('.') != std::string::npos;
            const std::int64_t axes = open ? tensor.rank() - static_cast<std::int64_t>(terms[i].size()) + 3 : 0;
            ellipsis = std::max(ellipsis, axes);
            operands.push_back({tensor, parseTerm(terms[i], axes)});
            if (static_cast<std::int64_t>(operands.back().labels.size()) != tensor.rank()) {
                throw ModelError(fmt::format("'{}' of '{}' does not fit shape {}", terms[i], equation, toString(tensor.shape())));
            }
            for (std::size_t d = 0; d < operands.back().labels.size(); ++d) {
                std::int64_t& size = sizes.try_emplace(operands.back().labels[d], 1).first->second;
                const std::int64_t own = tensor.shape()[d];
                if (own != 1 && size != 1 && own != size) {
                    throw ModelError(fmt::format("an index of '{}' has sizes {} and {}", equation, size, own));
                }
                if (own != 1) size = own;
            }
        }
        Labels result;
        if (target) {
            result = parseTerm(*target, ellipsis);
        } else {  // the ellipsis, then the labels that stand once, in alphabetical order
            result = parseTerm("...", ellipsis);
            std::map<int, int> seen;
            for (const Labelled& operand : operands) {
                for (int label : operand.labels) seen[label] += label > 0;
            }
            for (const auto& [label, times] : seen) {
                if (times == 1) result.push_back(label);
            }
        }
        for (const int label : result) {
            if (!sizes.contains(label) || std::ranges::count(result, label) != 1) {
                throw ModelError(fmt::format("the result of '{}' must name indices of the operands, each once", equation));
            }
        }
        for (Labelled& operand : operands) operand = diagonal(operand, sizes);
        Labelled accumulated = operands.front();
        for (std::size_t i = 1; i < operands.size(); ++i) {
            std::set<int> needed(result.begin(), result.end());
            for (std::size_t later = i + 1; later < operands.size(); ++later) needed.insert(operands[later].labels.begin(), operands[later].labels.end());
            accumulated = contract(accumulated, operands[i], needed);
        }
        accumulated = ordered(summed(accumulated, {result.begin(), result.end()}), result);
        context.setOutput(0, convert(accumulated.tensor, context.input(0).dtype()));
    };
}

const OperatorRow kRows[] = {
    {"", "Einsum", 12, makeEinsum, kNumericTypes},
};

}  // namespace

std::span<const OperatorRow> einsumOperators() { return kRows; }

}  // namespace tcompress::exec
