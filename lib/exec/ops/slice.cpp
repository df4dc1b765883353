// Slice and Pad.

#include <algorithm>

#include "kernels/transpose.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

/// What a Slice takes of one axis.
struct Range {
    std::int64_t start = 0;
    std::int64_t step = 1;
    std::int64_t count = 0;
};

Range sliceRange(std::int64_t size, std::int64_t start, std::int64_t end, std::int64_t step) {
    if (step == 0) throw ModelError("a step must not be 0");
    step = std::clamp<std::int64_t>(step, -size - 1, size + 1);  // a larger step takes as little, and its products fit
    if (start < 0) start += size;
    if (end < 0) end = end < -size ? -1 : end + size;
    if (step > 0) {
        start = std::clamp<std::int64_t>(start, 0, size);
        end = std::clamp<std::int64_t>(end, 0, size);
        return {start, step, std::max<std::int64_t>(0, (end - start + step - 1) / step)};
    }
    start = std::clamp<std::int64_t>(start, 0, size - 1);
    end = std::clamp<std::int64_t>(end, -1, size - 1);
    return {start, step, size == 0 ? 0 : std::max<std::int64_t>(0, (end - start + step + 1) / step)};
}

/// Starts, ends, axes and steps: attributes before opset 10, inputs since.
struct SliceArguments {
    std::vector<std::int64_t> starts, ends, axes, steps;
};

void runSlice(OpContext& context, SliceArguments arguments) {
    const Tensor& x = context.input(0);
    if (arguments.axes.empty()) {
        for (std::size_t i = 0; i < arguments.starts.size(); ++i) arguments.axes.push_back(static_cast<std::int64_t>(i));
    }
    arguments.steps.resize(arguments.starts.size(), 1);
    if (arguments.ends.size() != arguments.starts.size() || arguments.axes.size() != arguments.starts.size()) {
        throw ModelError(fmt::format("{} starts, {} ends and {} axes do not go together", arguments.starts.size(),
                                     arguments.ends.size(), arguments.axes.size()));
    }
    Shape shape = x.shape();
    std::vector<std::int64_t> strides = stridesOf(x.shape());
    std::int64_t offset = 0;
    bool prefix = true;  // nothing but the beginning of the first axis is taken
    std::vector<bool> cut(shape.size(), false);
    for (std::size_t i = 0; i < arguments.axes.size(); ++i) {
        const auto axis = static_cast<std::size_t>(normalizeAxis(arguments.axes[i], x.rank()));
        if (cut[axis]) throw ModelError(fmt::format("axis {} is cut twice", axis));
        cut[axis] = true;
        const Range range = sliceRange(x.shape()[axis], arguments.starts[i], arguments.ends[i], arguments.steps[i]);
        prefix = prefix && (range.count == x.shape()[axis] || axis == 0) && range.step == 1;
        offset += range.start * strides[axis];
        shape[axis] = range.count;
        strides[axis] *= range.step;
    }
    const std::int64_t width = bitsPerElement(x.dtype()) / 8;
    const std::byte* from = typedBytes(x) + offset * width;
    if (shape == x.shape() && prefix) {
        context.setOutput(0, x);
        return;
    }
    if (prefix && elementCount(shape) > 0) {
        context.setOutput(0, Tensor::share(x.dtype(), shape, std::shared_ptr<const std::byte>(x.storage(), from)));
        return;
    }
    std::byte* y = context.outputBytes(0, x.dtype(), shape);
    if (elementCount(shape) == 0) return;
    kernels::copyStrided(from, static_cast<int>(width), shape, strides, stridesOf(shape), y);
}

Runner makeSlice(const NodeInfo& info) {
    if (const auto starts = info.attributes.integers("starts")) {
        SliceArguments arguments{*starts, info.attributes.integers("ends").value_or(std::vector<std::int64_t>{}),
                                 info.attributes.integers("axes").value_or(std::vector<std::int64_t>{}), {}};
        return [arguments](OpContext& context) { runSlice(context, arguments); };
    }
    return [](OpContext& context) {
        SliceArguments arguments{integers(context.input(1)), integers(context.input(2)), {}, {}};
        if (const Tensor* axes = context.optionalInput(3)) arguments.axes = integers(*axes);
        if (const Tensor* steps = context.optionalInput(4)) arguments.steps = integers(*steps);
        runSlice(context, std::move(arguments));
    };
}

enum class PadMode { constant, reflect, edge, wrap };

PadMode padMode(const std::string& name) {
    if (name == "constant") return PadMode::constant;
    if (name == "reflect") return PadMode::reflect;
    if (name == "edge") return PadMode::edge;
    if (name == "wrap") return PadMode::wrap;
    throw ModelError(fmt::format("pad mode '{}' is unknown", name));
}

/// Which source position fills position `i` (counted from the first unpadded element); -1: the constant.
std::int64_t padSource(PadMode mode, std::int64_t i, std::int64_t size) {
    if (i >= 0 && i < size) return i;
    switch (mode) {
        case PadMode::constant: return -1;
        case PadMode::edge: return i < 0 ? 0 : size - 1;
        case PadMode::wrap: return ((i % size) + size) % size;
        case PadMode::reflect: break;
    }
    if (size == 1) return 0;
    const std::int64_t period = 2 * (size - 1);
    const std::int64_t position = ((i % period) + period) % period;
    return position < size ? position : period - position;
}

template <class T>
void padElements(const Tensor& x, PadMode mode, const std::vector<std::int64_t>& before, const Shape& shape, T fill,
                 T* y) {
    std::vector<std::vector<std::int64_t>> sources(shape.size());
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (mode != PadMode::constant && x.shape()[axis] == 0 && shape[axis] > 0) throw ModelError("an axis without elements has none to pad with");
        for (std::int64_t i = 0; i < shape[axis]; ++i) {
            sources[axis].push_back(padSource(mode, i - before[axis], x.shape()[axis]));
        }
    }
    const T* from = rawData<T>(x);
    const std::vector<std::int64_t> strides = stridesOf(x.shape());
    const std::int64_t inner = shape.empty() ? 1 : shape.back();
    const std::int64_t outer = inner == 0 ? 0 : elementCount(shape) / inner;
    for (std::int64_t o = 0; o < outer; ++o) {
        std::int64_t rest = o;
        std::int64_t offset = 0;
        bool outside = false;
        for (std::size_t axis = shape.size() - (shape.empty() ? 0 : 1); axis-- > 0;) {
            const std::int64_t source = sources[axis][static_cast<std::size_t>(rest % shape[axis])];
            rest /= shape[axis];
            outside = outside || source < 0;
            offset += source * strides[axis];
        }
        T* row = y + o * inner;
        for (std::int64_t i = 0; i < inner; ++i) {
            const std::int64_t source = shape.empty() ? 0 : sources.back()[static_cast<std::size_t>(i)];
            row[i] = outside || source < 0 ? fill : from[offset + source];
        }
    }
}

Runner makePad(const NodeInfo& info) {
    const PadMode mode = padMode(info.attributes.text("mode", "constant"));
    const auto attribute = info.attributes.integers("pads");
    const float value = info.attributes.real("value", 0);
    return [=](OpContext& context) {
        const DType type = context.input(0).dtype();
        const Tensor x = unpackSubByte(context.input(0));
        const std::vector<std::int64_t> pads = attribute ? *attribute : integers(context.input(1));
        std::vector<std::int64_t> axes;
        if (const Tensor* given = context.optionalInput(3)) {
            axes = normalizeAxes(integers(*given), x.rank());
        } else {
            for (std::int64_t i = 0; i < x.rank(); ++i) axes.push_back(i);
        }
        if (pads.size() != 2 * axes.size()) {
            throw ModelError(fmt::format("{} pads for {} axes", pads.size(), axes.size()));
        }
        std::vector<std::int64_t> before(x.shape().size(), 0);
        Shape shape = x.shape();
        for (std::size_t i = 0; i < axes.size(); ++i) {
            const auto axis = static_cast<std::size_t>(axes[i]);
            constexpr std::int64_t kLargest = std::int64_t{1} << 40;  // more than memory holds; keeps the sums below from running over
            for (const std::int64_t pad : {pads[i], pads[axes.size() + i]}) {
                if (pad < -kLargest || pad > kLargest) throw ModelError(fmt::format("a pad of {} elements", pad));
            }
            before[axis] = pads[i];
            shape[axis] += pads[i] + pads[axes.size() + i];
        }
        const Tensor* given = context.optionalInput(2);
        const Tensor fill = unpackSubByte(given && given->size() == 1 ? *given : convert(Tensor::scalar(value), type));
        if (fill.dtype() != x.dtype()) throw ModelError(fmt::format("{} is padded with {}", name(type), name(fill.dtype())));
        std::byte* y = context.outputBytes(0, x.dtype(), shape);
        visitWidth(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            padElements<T>(x, mode, before, shape, rawData<T>(fill)[0], reinterpret_cast<T*>(y));
        });
        if (type != x.dtype()) context.setOutput(0, packSubByte(context.outputTensor(0), type));
    };
}

/// Reverses the first lengths[b] entries of each batch element along the time axis.
Runner makeReverseSequence(const NodeInfo& info) {
    const auto batchAxis = static_cast<std::size_t>(info.attributes.integer("batch_axis", 1));
    const auto timeAxis = static_cast<std::size_t>(info.attributes.integer("time_axis", 0));
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::vector<std::int64_t> lengths = integers(context.input(1));
        const auto isLength = [&](std::int64_t length) { return length >= 0 && length <= x.shape().at(timeAxis); };
        if (batchAxis + timeAxis != 1 || x.rank() < 2 || static_cast<std::int64_t>(lengths.size()) != x.shape()[batchAxis] ||
            !std::ranges::all_of(lengths, isLength)) {
            throw ModelError(fmt::format("lengths {} do not fit shape {} (time axis {})", toString(lengths), toString(x.shape()), timeAxis));
        }
        const std::int64_t width = bitsPerElement(x.dtype()) / 8;
        const std::int64_t inner = product(x.shape(), 2, x.shape().size()) * width;
        std::byte* y = context.outputBytes(0, x.dtype(), x.shape());
        for (std::int64_t a = 0; a < x.shape().at(0); ++a) {
            for (std::int64_t b = 0; b < x.shape().at(1); ++b) {
                const std::int64_t length = lengths.at(static_cast<std::size_t>(batchAxis == 0 ? a : b));
                const std::int64_t time = timeAxis == 0 ? a : b;
                const std::int64_t from = time < length ? length - 1 - time : time;
                const std::int64_t row = timeAxis == 0 ? from * x.shape()[1] + b : a * x.shape()[1] + from;
                std::memcpy(y + (a * x.shape()[1] + b) * inner, x.bytes().data() + row * inner, static_cast<std::size_t>(inner));
            }
        }
    };
}

const OperatorRow kRows[] = {
    {"", "Slice", 1, makeSlice, kLogicTypes, FloatSupport::all},
    {"", "ReverseSequence", 10, makeReverseSequence, kLogicTypes, FloatSupport::all},
    {"", "Pad", 2, makePad, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> sliceOperators() { return kRows; }

}  // namespace tcompress::exec
