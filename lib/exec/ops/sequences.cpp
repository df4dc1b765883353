// Sequences of tensors and optionals: they carry whole tensors along, so no operator here touches an element but for cutting and
// joining.

#include "lib/exec/ops/join.h"

namespace tcompress::exec {

namespace {

/// Position `input` of a sequence, from the end when negative; `fallback` when the input is left out.
std::ptrdiff_t positionOf(const OpContext& context, std::size_t input, std::int64_t size, std::int64_t fallback) {
    if (!context.has(input)) return fallback;
    return normalizeIndex(integerScalar(context.input(input)), size);
}

Runner makeSequenceEmpty(const NodeInfo&) {
    return [](OpContext& context) { context.setOutput(0, Sequence{}); };
}

Runner makeSequenceConstruct(const NodeInfo&) {
    return [](OpContext& context) {
        Sequence result;
        for (std::size_t i = 0; i < context.inputCount(); ++i) result.push_back(context.input(i));
        context.setOutput(0, std::move(result));
    };
}

Runner makeSequenceInsert(const NodeInfo&) {
    return [](OpContext& context) {
        Sequence result = context.sequence(0);
        const auto size = static_cast<std::int64_t>(result.size());
        // The end is a position as well, also counted as `size`.
        const bool atEnd = context.has(2) && integerScalar(context.input(2)) == size;
        result.insert(result.begin() + (atEnd ? size : positionOf(context, 2, size, size)), context.input(1));
        context.setOutput(0, std::move(result));
    };
}

Runner makeSequenceErase(const NodeInfo&) {
    return [](OpContext& context) {
        Sequence result = context.sequence(0);
        const auto size = static_cast<std::int64_t>(result.size());
        if (size == 0) throw DataError("an empty sequence has nothing to erase");
        result.erase(result.begin() + positionOf(context, 1, size, size - 1));
        context.setOutput(0, std::move(result));
    };
}

Runner makeSequenceAt(const NodeInfo&) {
    return [](OpContext& context) {
        const Sequence& sequence = context.sequence(0);
        const auto at = normalizeIndex(integerScalar(context.input(1)), static_cast<std::int64_t>(sequence.size()));
        context.setOutput(0, sequence[static_cast<std::size_t>(at)]);
    };
}

Runner makeSequenceLength(const NodeInfo&) {
    return [](OpContext& context) {
        context.setOutput(0, Tensor::scalar(static_cast<std::int64_t>(context.sequence(0).size())));
    };
}

/// Parts of one size (1 when it is left out; the last may be smaller), or of listed sizes.
Runner makeSplitToSequence(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    const bool keeps = info.attributes.integer("keepdims", 1) != 0 || info.hasInput(1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        const std::int64_t total = x.shape()[axis];
        std::vector<std::int64_t> sizes;
        if (context.has(1) && context.input(1).rank() == 1) {
            sizes = integers(context.input(1));
            requireSplit(sizes, total);
        } else {
            const std::int64_t size = context.has(1) ? integerScalar(context.input(1)) : 1;
            if (size <= 0) throw ModelError(fmt::format("an axis cannot be split into parts of {}", size));
            for (std::int64_t begin = 0; begin < total; begin += size) sizes.push_back(std::min(size, total - begin));
        }
        Sequence result;
        std::int64_t begin = 0;
        for (std::int64_t size : sizes) {
            result.push_back(keeps ? rangeOf(context, x, axis, begin, size) : elementOf(context, x, axis, begin));
            begin += size;
        }
        context.setOutput(0, std::move(result));
    };
}

Runner makeConcatFromSequence(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", 0);
    const bool newAxis = info.attributes.integer("new_axis", 0) != 0;
    return [=](OpContext& context) {
        const Sequence& sequence = context.sequence(0);
        if (sequence.empty()) throw DataError("an empty sequence cannot be joined");
        std::vector<const Tensor*> parts;
        for (const Tensor& part : sequence) parts.push_back(&part);
        context.setOutput(0, newAxis ? stack(context, sequence, axis) : concatenate(context, parts, axis));
    };
}

Runner makeOptional(const NodeInfo&) {
    return [](OpContext& context) { context.setOutput(0, context.has(0) ? context.datum(0) : Datum()); };
}

Runner makeOptionalHasElement(const NodeInfo&) {
    return [](OpContext& context) { context.setOutput(0, Tensor::scalar(context.has(0) && !context.datum(0).isEmpty())); };
}

Runner makeOptionalGetElement(const NodeInfo&) {
    return [](OpContext& context) {
        if (context.datum(0).isEmpty()) throw DataError("an optional without a value was asked for it");
        context.setOutput(0, context.datum(0));
    };
}

constexpr FloatSupport kAnyFloat = FloatSupport::all;

const OperatorRow kRows[] = {
    {"", "SequenceEmpty", 11, makeSequenceEmpty, kStoredTypes, kAnyFloat},
    {"", "SequenceConstruct", 11, makeSequenceConstruct, kStoredTypes, kAnyFloat},
    {"", "SequenceInsert", 11, makeSequenceInsert, kStoredTypes, kAnyFloat},
    {"", "SequenceErase", 11, makeSequenceErase, kStoredTypes, kAnyFloat},
    {"", "SequenceAt", 11, makeSequenceAt, kStoredTypes, kAnyFloat},
    {"", "SequenceLength", 11, makeSequenceLength, kStoredTypes, kAnyFloat},
    {"", "SplitToSequence", 11, makeSplitToSequence, kLogicTypes, kAnyFloat},
    {"", "ConcatFromSequence", 11, makeConcatFromSequence, kLogicTypes, kAnyFloat},
    {"", "Optional", 15, makeOptional, kStoredTypes, kAnyFloat},
    {"", "OptionalHasElement", 15, makeOptionalHasElement, kStoredTypes, kAnyFloat},
    {"", "OptionalGetElement", 15, makeOptionalGetElement, kStoredTypes, kAnyFloat},
};

}  // namespace

std::span<const OperatorRow> sequenceOperators() { return kRows; }

}  // namespace tcompress::exec
