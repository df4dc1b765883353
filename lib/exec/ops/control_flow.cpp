// If, Loop and Scan: their bodies are Programs of their own. Captured values are inputs of the node after its own ones.

#include <optional>

#include "lib/exec/ops/support.h"
#include "lib/exec/program.h"

namespace tcompress::exec {

namespace {

void appendCaptured(const OpContext& context, std::size_t from, std::vector<Tensor>& inputs) {
    for (std::size_t i = from; i < context.inputCount(); ++i) inputs.push_back(context.input(i));
}

bool truth(const Tensor& condition) {
    if (condition.dtype() != DType::boolean || condition.size() != 1) throw ModelError("a condition must be one bool");
    return condition.data<bool>()[0];
}

Runner makeIf(const NodeInfo& info) {
    const auto thenProgram = info.subprogram("then_branch");
    const auto elseProgram = info.subprogram("else_branch");
    const std::size_t captured = info.capturedFrom;
    return [=](OpContext& context) {
        std::vector<Tensor> inputs;
        appendCaptured(context, captured, inputs);
        const Program& chosen = truth(context.input(0)) ? *thenProgram : *elseProgram;
        std::vector<Tensor> outputs = chosen.run(context.allocator(), std::move(inputs));
        for (std::size_t i = 0; i < outputs.size() && i < context.outputCount(); ++i) context.setOutput(i, std::move(outputs[i]));
    };
}

/// Stacks equal parts along a new axis.
Tensor stack(OpContext& context, const std::vector<Tensor>& parts, std::int64_t axisAttribute) {
    if (parts.empty()) throw KernelError("a scan output without iterations has no known shape");
    const Tensor& first = parts.front();
    const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, first.rank() + 1));
    Shape shape = first.shape();
    shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(axis), static_cast<std::int64_t>(parts.size()));
    const std::int64_t outer = product(first.shape(), 0, axis);
    std::byte* y = nullptr;
    Tensor result = context.temporary(first.dtype(), shape, &y);
    const std::size_t inner = outer == 0 ? 0 : first.sizeBytes() / static_cast<std::size_t>(outer);
    for (std::size_t o = 0; o < static_cast<std::size_t>(outer); ++o) {
        for (std::size_t p = 0; p < parts.size(); ++p) {
            if (parts[p].shape() != first.shape()) throw ModelError("a scan output changes its shape");
            std::memcpy(y + (o * parts.size() + p) * inner, parts[p].bytes().data() + o * inner, inner);
        }
    }
    return result;
}

/// Inputs: trip count, condition, carried values. The body takes (iteration, condition, carried …) and gives (condition,
/// carried …, scan outputs …).
Runner makeLoop(const NodeInfo& info) {
    const auto body = info.subprogram("body");
    const std::size_t captured = info.capturedFrom;
    return [=](OpContext& context) {
        const std::size_t carriedCount = captured - 2;
        const std::optional<std::int64_t> trips =
            context.has(0) ? std::optional(integerScalar(context.input(0))) : std::nullopt;
        bool condition = context.has(1) ? truth(context.input(1)) : true;
        std::vector<Tensor> carried;
        for (std::size_t i = 0; i < carriedCount; ++i) carried.push_back(context.input(2 + i));
        std::vector<std::vector<Tensor>> scanned(body->outputCount() - 1 - carriedCount);
        for (std::int64_t i = 0; condition && (!trips || i < *trips); ++i) {
            std::vector<Tensor> inputs{Tensor::scalar(i), Tensor::scalar(condition)};
            inputs.insert(inputs.end(), carried.begin(), carried.end());
            appendCaptured(context, captured, inputs);
            std::vector<Tensor> outputs = body->run(context.allocator(), std::move(inputs));
            condition = truth(outputs[0]);
            for (std::size_t k = 0; k < carriedCount; ++k) carried[k] = std::move(outputs[1 + k]);
            for (std::size_t k = 0; k < scanned.size(); ++k) scanned[k].push_back(std::move(outputs[1 + carriedCount + k]));
        }
        for (std::size_t k = 0; k < carriedCount && k < context.outputCount(); ++k) context.setOutput(k, carried[k]);
        for (std::size_t k = 0; k < scanned.size() && carriedCount + k < context.outputCount(); ++k) {
            if (context.wants(carriedCount + k)) context.setOutput(carriedCount + k, stack(context, scanned[k], 0));
        }
    };
}

/// Slice i of an axis, the axis gone.
Tensor sliceOf(OpContext& context, const Tensor& x, std::size_t axis, std::int64_t index) {
    Shape shape = x.shape();
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
    const std::int64_t outer = product(x.shape(), 0, axis);
    const std::size_t width = static_cast<std::size_t>(bitsPerElement(x.dtype())) / 8;
    const std::size_t inner = static_cast<std::size_t>(product(x.shape(), axis + 1, x.shape().size())) * width;
    std::byte* y = nullptr;
    Tensor result = context.temporary(x.dtype(), shape, &y);
    for (std::int64_t o = 0; o < outer; ++o) {
        const std::byte* from = x.bytes().data() + static_cast<std::size_t>(o * x.shape()[axis] + index) * inner;
        std::memcpy(y + static_cast<std::size_t>(o) * inner, from, inner);
    }
    return result;
}

/// Inputs: states, then sequences that are walked together; outputs: states, then the stacked results.
Runner makeScan(const NodeInfo& info) {
    const auto body = info.subprogram("body");
    const std::size_t captured = info.capturedFrom;
    const auto sequences = static_cast<std::size_t>(info.attributes.integer("num_scan_inputs", 0));
    const auto list = [&](std::string_view name) { return info.attributes.integers(name).value_or(std::vector<std::int64_t>{}); };
    const auto inputAxes = list("scan_input_axes");
    const auto inputDirections = list("scan_input_directions");
    const auto outputAxes = list("scan_output_axes");
    const auto outputDirections = list("scan_output_directions");
    return [=](OpContext& context) {
        const auto entry = [](const std::vector<std::int64_t>& values, std::size_t i) { return values.empty() ? 0 : values.at(i); };
        const std::size_t stateCount = captured - sequences;
        std::vector<Tensor> states;
        for (std::size_t i = 0; i < stateCount; ++i) states.push_back(context.input(i));
        const auto axisOf = [&](std::size_t i) {
            return static_cast<std::size_t>(normalizeAxis(entry(inputAxes, i), context.input(stateCount + i).rank()));
        };
        const std::int64_t length = sequences == 0 ? 0 : context.input(stateCount).shape()[axisOf(0)];
        std::vector<std::vector<Tensor>> scanned(body->outputCount() - stateCount);
        for (std::int64_t step = 0; step < length; ++step) {
            std::vector<Tensor> inputs = states;
            for (std::size_t i = 0; i < sequences; ++i) {
                const std::int64_t at = entry(inputDirections, i) ? length - 1 - step : step;
                inputs.push_back(sliceOf(context, context.input(stateCount + i), axisOf(i), at));
            }
            appendCaptured(context, captured, inputs);
            std::vector<Tensor> outputs = body->run(context.allocator(), std::move(inputs));
            for (std::size_t i = 0; i < stateCount; ++i) states[i] = std::move(outputs[i]);
            for (std::size_t i = 0; i < scanned.size(); ++i) scanned[i].push_back(std::move(outputs[stateCount + i]));
        }
        for (std::size_t i = 0; i < stateCount; ++i) context.setOutput(i, states[i]);
        for (std::size_t i = 0; i < scanned.size(); ++i) {
            if (entry(outputDirections, i)) std::reverse(scanned[i].begin(), scanned[i].end());
            if (context.wants(stateCount + i)) context.setOutput(stateCount + i, stack(context, scanned[i], entry(outputAxes, i)));
        }
    };
}

const OperatorRow kRows[] = {
    {"", "If", 1, makeIf, TypeSet{DType::boolean}, FloatSupport::all},
    {"", "Loop", 1, makeLoop, kStoredTypes, FloatSupport::all},
    {"", "Scan", 9, makeScan, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> controlFlowOperators() { return kRows; }

}  // namespace tcompress::exec
