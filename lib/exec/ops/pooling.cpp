// Pools: one or two axes of float32 by the kernels, the rest (more axes, bytes, positions of the maxima) by plain loops.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/conv.h"
#include "kernels/reduce.h"
#include "lib/exec/ops/window.h"

namespace tcompress::exec {

namespace {

bool kernelTakes(const Tensor& x, const WindowGeometry& g) { return x.dtype() == DType::float32 && g.axes() <= 2; }

void runKernel(OpContext& context, const WindowGeometry& g, kernels::PoolKind kind) {
    const Tensor& x = context.input(0);
    kernels::Pooling params;
    params.kind = kind;
    params.planes = x.shape()[0] * x.shape()[1];
    params.input = planeOf(g.input);
    params.output = planeOf(g.output);
    params.window = g.kernelWindow();
    params.x = x.data<float>().data();
    params.y = context.output<float>(0, resultShape(x.shape()[0], x.shape()[1], g.output)).data();
    kernels::pooling(params);
}

/// Calls body(plane, position, sources of the window that lie inside) for every result.
template <class Body>
void forEachWindow(const WindowGeometry& g, std::int64_t planes, Body&& body) {
    parallelFor(planes, [&](std::int64_t plane) {
        std::vector<std::int64_t> sources;
        for (std::int64_t position = 0; position < g.outputSize(); ++position) {
            sources.clear();
            for (std::int64_t tap = 0; tap < g.kernelSize(); ++tap) {
                const std::int64_t source = g.source(position, tap);
                if (source >= 0) sources.push_back(source);
            }
            body(plane, position, sources);
        }
    });
}

/// Positions count through the whole input, column by column when storage_order is 1.
std::int64_t flatPosition(const WindowGeometry& g, std::int64_t plane, std::int64_t source, bool columnMajor) {
    if (!columnMajor) return plane * g.inputSize() + source;
    std::int64_t offset = 0;
    std::int64_t stepSize = g.inputSize();
    for (std::size_t i = g.axes(); i-- > 0;) {
        stepSize /= g.input[i];
        offset += source % g.input[i] * stepSize;
        source /= g.input[i];
    }
    return plane * g.inputSize() + offset;
}

Runner makeMaxPool(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const bool columnMajor = info.attributes.integer("storage_order", 0) != 0;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const WindowGeometry g = windowGeometry(x.shape(), attributes, attributes.kernel);
        if (kernelTakes(x, g) && !context.wants(1)) {
            runKernel(context, g, kernels::PoolKind::max);
            return;
        }
        const Shape shape = resultShape(x.shape()[0], x.shape()[1], g.output);
        std::int64_t* indices = context.wants(1) ? context.output<std::int64_t>(1, shape).data() : nullptr;
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T* values = x.data<T>().data();
            T* y = context.output<T>(0, shape).data();
            forEachWindow(g, x.shape()[0] * x.shape()[1], [&](std::int64_t plane, std::int64_t position, const auto& sources) {
                T best = std::numeric_limits<T>::lowest();
                std::int64_t at = 0;
                for (std::int64_t source : sources) {
                    const T value = values[plane * g.inputSize() + source];
                    if (source != sources.front() && !(value > best)) continue;
                    best = value;
                    at = source;
                }
                y[plane * g.outputSize() + position] = best;
                if (indices) indices[plane * g.outputSize() + position] = flatPosition(g, plane, at, columnMajor);
            });
        });
    };
}

Runner makeAveragePool(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const bool countPadding = info.attributes.integer("count_include_pad", 0) != 0;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const WindowGeometry g = windowGeometry(x.shape(), attributes, attributes.kernel);
        if (kernelTakes(x, g)) {
            runKernel(context, g, countPadding ? kernels::PoolKind::averageIncludePad : kernels::PoolKind::averageExcludePad);
            return;
        }
        // Windows clipped to the padded input (ceil mode reaches past it) tell how many positions count.
        WindowGeometry padded = g;
        for (std::size_t i = 0; i < g.axes(); ++i) {
            padded.input[i] += g.padBegin[i] + g.padEnd[i];
            padded.padBegin[i] = 0;
        }
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T* values = x.data<T>().data();
            T* y = context.output<T>(0, resultShape(x.shape()[0], x.shape()[1], g.output)).data();
            forEachWindow(g, x.shape()[0] * x.shape()[1], [&](std::int64_t plane, std::int64_t position, const auto& sources) {
                T sum = 0;
                for (std::int64_t source : sources) sum += values[plane * g.inputSize() + source];
                auto count = static_cast<std::int64_t>(sources.size());
                if (countPadding) {
                    count = 0;
                    for (std::int64_t tap = 0; tap < g.kernelSize(); ++tap) count += padded.source(position, tap) >= 0;
                }
                y[plane * g.outputSize() + position] = sum / static_cast<T>(count);
            });
        });
    };
}

Runner makeLpPool(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const auto p = static_cast<double>(info.attributes.integer("p", 2));
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const WindowGeometry g = windowGeometry(x.shape(), attributes, attributes.kernel);
        const float* values = x.data<float>().data();
        float* y = context.output<float>(0, resultShape(x.shape()[0], x.shape()[1], g.output)).data();
        forEachWindow(g, x.shape()[0] * x.shape()[1], [&](std::int64_t plane, std::int64_t position, const auto& sources) {
            double sum = 0;
            for (std::int64_t source : sources) sum += std::pow(std::abs(static_cast<double>(values[plane * g.inputSize() + source])), p);
            y[plane * g.outputSize() + position] = static_cast<float>(std::pow(sum, 1 / p));
        });
    };
}

/// Puts values back where MaxPool found them (positions count through its whole input), zeros elsewhere. Inputs x, positions,
/// [shape]: a larger one than the window gives only adds zeros behind.
Runner makeMaxUnpool(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& positions = context.input(1);
        const std::size_t spatial = attributes.kernel.size();
        if (x.shape().size() != spatial + 2 || positions.shape() != x.shape()) {
            throw ModelError(fmt::format("positions of shape {} do not fit {}", toString(positions.shape()), toString(x.shape())));
        }
        Shape pooled = x.shape();
        for (std::size_t i = 0; i < spatial; ++i) {
            const std::int64_t pads = attributes.pads.empty() ? 0 : attributes.pads.at(i) + attributes.pads.at(i + spatial);
            pooled[i + 2] = (x.shape()[i + 2] - 1) * (attributes.strides.empty() ? 1 : attributes.strides.at(i)) + attributes.kernel[i] - pads;
        }
        const Shape shape = context.has(2) ? integers(context.input(2)) : pooled;
        bool fits = shape.size() == pooled.size();
        for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = pooled[i] > 0 && shape[i] >= pooled[i];
        if (!fits) throw ModelError(fmt::format("an output of shape {} cannot hold {}", toString(shape), toString(pooled)));
        const std::vector<std::int64_t> strides = stridesOf(shape);
        float* y = context.output<float>(0, shape).data();
        std::fill_n(y, elementCount(shape), 0.0F);
        for (std::int64_t i = 0; i < x.size(); ++i) {
            std::int64_t at = normalizeIndex(positions.data<std::int64_t>()[static_cast<std::size_t>(i)], elementCount(pooled));
            std::int64_t target = 0;
            for (std::size_t axis = pooled.size(); axis-- > 0; at /= pooled[axis]) target += at % pooled[axis] * strides[axis];
            y[target] = x.data<float>()[static_cast<std::size_t>(i)];
        }
    };
}

template <kernels::ReduceOp op>
Runner makeGlobalPool(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        std::vector<std::uint8_t> reduced(x.shape().size(), 1);
        Shape shape(x.shape().size(), 1);
        for (std::size_t i = 0; i < 2; ++i) {
            reduced.at(i) = 0;
            shape[i] = x.shape()[i];
        }
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            kernels::reduce<T>(op, x.data<T>().data(), x.shape(), reduced, context.output<T>(0, shape).data());
        });
    };
}

const OperatorRow kRows[] = {
    {"", "MaxPool", 1, makeMaxPool, kFloatTypes | kByteTypes},
    {"", "AveragePool", 1, makeAveragePool, kFloatTypes},
    {"", "LpPool", 2, makeLpPool, kFloatTypes, FloatSupport::float32},
    {"", "MaxUnpool", 9, makeMaxUnpool, kFloatTypes, FloatSupport::float32},
    {"", "GlobalAveragePool", 1, makeGlobalPool<kernels::ReduceOp::mean>, kFloatTypes},
    {"", "GlobalMaxPool", 1, makeGlobalPool<kernels::ReduceOp::max>, kFloatTypes},
};

}  // namespace

std::span<const OperatorRow> poolingOperators() { return kRows; }

}  // namespace tcompress::exec
