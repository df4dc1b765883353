// If, Loop and Scan: their bodies are Programs of their own. Captured values are inputs of the node after its own ones.

#include <algorithm>
#include <limits>
#include <optional>

#include "lib/exec/ops/join.h"
#include "lib/exec/program.h"

namespace tcompress::exec {

namespace {

void appendCaptured(const OpContext& context, std::size_t from, std::vector<Datum>& inputs) {
    for (std::size_t i = from; i < context.inputCount(); ++i) inputs.push_back(context.datum(i));
}

bool truth(const Tensor& condition) {
    if (condition.dtype() != DType::boolean || condition.size() != 1) throw ModelError("a condition must be one bool");
    return condition.data<bool>()[0];
}

/// A body is given the node's `own` values and those that it captures.
void requireInputs(const NodeInfo& info, const Program& body, std::size_t own) {
    const std::size_t given = own + info.inputs.size() - info.capturedFrom;
    if (body.inputCount() != given) throw ModelError(fmt::format("the body takes {} values, and is given {}", body.inputCount(), given));
}

Runner makeIf(const NodeInfo& info) {
    const auto thenProgram = info.subprogram("then_branch");
    const auto elseProgram = info.subprogram("else_branch");
    const std::size_t captured = info.capturedFrom;
    for (const auto& branch : {thenProgram, elseProgram}) requireInputs(info, *branch, 0);
    return [=](OpContext& context) {
        std::vector<Datum> inputs;
        appendCaptured(context, captured, inputs);
        const Program& chosen = truth(context.input(0)) ? *thenProgram : *elseProgram;
        std::vector<Datum> outputs = chosen.run(context.allocator(), std::move(inputs));
        for (std::size_t i = 0; i < outputs.size() && i < context.outputCount(); ++i) context.setOutput(i, std::move(outputs[i]));
    };
}

/// What a loop without iterations gives for a scan output: its declared shape behind an axis of 0, unknown dimensions as 0.
/// Nothing when the body does not declare it.
std::optional<Tensor> emptyScan(const onnx::ValueInfoProto& output) {
    const onnx::TypeProto::Tensor& type = output.type().tensor_type();
    if (!type.has_shape()) return std::nullopt;
    Shape shape{0};
    for (const auto& dimension : type.shape().dim()) shape.push_back(dimension.dim_value());
    return Tensor(static_cast<DType>(type.elem_type()), shape);
}

/// Inputs: trip count, condition, carried values. The body takes (iteration, condition, carried …) and gives (condition,
/// carried …, scan outputs …).
Runner makeLoop(const NodeInfo& info) {
    const auto body = info.subprogram("body");
    const std::size_t captured = info.capturedFrom;
    if (captured < 2 || body->outputCount() < captured - 1 || body->inputCount() < captured) {
        throw ModelError("the body does not take and give the values that the loop carries");
    }
    requireInputs(info, *body, captured);
    const std::size_t carriedCount = captured - 2;
    std::vector<std::optional<Tensor>> withoutIterations;
    for (const onnx::ValueInfoProto& output : info.attributes.graph("body")->output()) withoutIterations.push_back(emptyScan(output));
    return [=](OpContext& context) {
        const std::int64_t trips = context.has(0) ? integerScalar(context.input(0)) : std::numeric_limits<std::int64_t>::max();
        bool condition = context.has(1) ? truth(context.input(1)) : true;
        std::vector<Datum> carried;
        for (std::size_t i = 0; i < carriedCount; ++i) carried.push_back(context.datum(2 + i));
        std::vector<Sequence> scanned(body->outputCount() - 1 - carriedCount);
        for (std::int64_t i = 0; condition && i < trips; ++i) {
            std::vector<Datum> inputs{Tensor::scalar(i), Tensor::scalar(condition)};
            inputs.insert(inputs.end(), carried.begin(), carried.end());
            appendCaptured(context, captured, inputs);
            std::vector<Datum> outputs = body->run(context.allocator(), std::move(inputs));
            condition = truth(outputs[0].tensor);
            for (std::size_t k = 0; k < carriedCount; ++k) carried[k] = std::move(outputs[1 + k]);
            for (std::size_t k = 0; k < scanned.size(); ++k) scanned[k].push_back(std::move(outputs[1 + carriedCount + k].tensor));
        }
        for (std::size_t k = 0; k < carriedCount && k < context.outputCount(); ++k) context.setOutput(k, carried[k]);
        for (std::size_t k = 0; k < scanned.size() && carriedCount + k < context.outputCount(); ++k) {
            if (!context.wants(carriedCount + k)) continue;
            if (!scanned[k].empty()) {
                context.setOutput(carriedCount + k, stack(context, scanned[k], 0));
                continue;
            }
            const std::optional<Tensor>& empty = withoutIterations[1 + carriedCount + k];
            if (!empty) throw KernelError("a scan output without iterations has no known shape");
            context.setOutput(carriedCount + k, *empty);
        }
    };
}

/// How Scan walks its sequences and stacks its results; an empty list means 0 for all.
struct ScanWalk {
    std::vector<std::int64_t> inputAxes, inputDirections, outputAxes, outputDirections;

    static std::int64_t entry(const std::vector<std::int64_t>& values, std::size_t i) { return values.empty() ? 0 : values.at(i); }
};

/// Final states, then stacked results. The body takes (state …, element of each sequence …) and gives (state …, result …).
std::vector<Tensor> scan(OpContext& context, const Program& body, std::vector<Tensor> states, const std::vector<Tensor>& sequences,
                         std::size_t captured, const ScanWalk& walk) {
    std::vector<std::size_t> axes;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        axes.push_back(static_cast<std::size_t>(normalizeAxis(ScanWalk::entry(walk.inputAxes, i), sequences[i].rank())));
    }
    const std::int64_t length = sequences.empty() ? 0 : sequences[0].shape()[axes[0]];
    std::vector<Sequence> scanned(body.outputCount() - states.size());
    for (std::int64_t step = 0; step < length; ++step) {
        std::vector<Datum> inputs(states.begin(), states.end());
        for (std::size_t i = 0; i < sequences.size(); ++i) {
            const std::int64_t at = ScanWalk::entry(walk.inputDirections, i) ? length - 1 - step : step;
            inputs.push_back(elementOf(context, sequences[i], axes[i], at));
        }
        appendCaptured(context, captured, inputs);
        std::vector<Datum> outputs = body.run(context.allocator(), std::move(inputs));
        for (std::size_t i = 0; i < states.size(); ++i) states[i] = std::move(outputs[i].tensor);
        for (std::size_t i = 0; i < scanned.size(); ++i) scanned[i].push_back(std::move(outputs[states.size() + i].tensor));
    }
    for (std::size_t i = 0; i < scanned.size(); ++i) {
        if (ScanWalk::entry(walk.outputDirections, i)) std::ranges::reverse(scanned[i]);
        if (scanned[i].empty()) throw KernelError("a scan output without iterations has no known shape");
        states.push_back(stack(context, scanned[i], ScanWalk::entry(walk.outputAxes, i)));
    }
    return states;
}

struct ScanInputs {
    std::vector<Tensor> states, sequences;
};
ScanInputs scanInputs(const OpContext& context, std::size_t from, std::size_t to, std::size_t sequenceCount) {
    ScanInputs inputs;
    for (std::size_t i = from; i < to; ++i) (i < to - sequenceCount ? inputs.states : inputs.sequences).push_back(context.input(i));
    return inputs;
}

std::size_t sequenceCountOf(const NodeInfo& info, const Program& body, std::size_t from) {
    const std::int64_t count = info.attributes.integer("num_scan_inputs", 0);
    const auto inputs = static_cast<std::int64_t>(info.capturedFrom - from);
    if (count < 1 || count > inputs || static_cast<std::int64_t>(body.outputCount()) < inputs - count) {
        throw ModelError(fmt::format("{} of {} inputs cannot be scanned", count, inputs));
    }
    requireInputs(info, body, info.capturedFrom - from);
    return static_cast<std::size_t>(count);
}

/// Inputs: states, then sequences that are walked together; outputs: states, then the stacked results.
Runner makeScan(const NodeInfo& info) {
    const auto body = info.subprogram("body");
    const std::size_t captured = info.capturedFrom;
    const std::size_t sequenceCount = sequenceCountOf(info, *body, 0);
    const auto list = [&](std::string_view name) { return info.attributes.integers(name).value_or(std::vector<std::int64_t>{}); };
    const ScanWalk walk{list("scan_input_axes"), list("scan_input_directions"), list("scan_output_axes"), list("scan_output_directions")};
    return [=](OpContext& context) {
        ScanInputs inputs = scanInputs(context, 0, captured, sequenceCount);
        std::vector<Tensor> outputs = scan(context, *body, std::move(inputs.states), inputs.sequences, captured, walk);
        for (std::size_t i = 0; i < outputs.size() && i < context.outputCount(); ++i) context.setOutput(i, std::move(outputs[i]));
    };
}

/// Scan of opset 8: the first input may list the lengths of the sequences (not supported), and all others have the batch as their
/// first axis.
Runner makeBatchedScan(const NodeInfo& info) {
    const auto body = info.subprogram("body");
    const std::size_t captured = info.capturedFrom;
    if (info.hasInput(0)) throw KernelError("sequences of different lengths are not supported");
    const std::size_t sequenceCount = sequenceCountOf(info, *body, 1);
    const ScanWalk walk{{}, info.attributes.integers("directions").value_or(std::vector<std::int64_t>{}), {}, {}};
    return [=](OpContext& context) {
        const ScanInputs inputs = scanInputs(context, 1, captured, sequenceCount);
        std::vector<Sequence> outputs(context.outputCount());
        for (std::int64_t b = 0; b < inputs.sequences[0].shape().at(0); ++b) {
            ScanInputs element = inputs;
            for (Tensor& state : element.states) state = elementOf(context, state, 0, b);
            for (Tensor& sequence : element.sequences) sequence = elementOf(context, sequence, 0, b);
            const std::vector<Tensor> results = scan(context, *body, element.states, element.sequences, captured, walk);
            for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].push_back(results.at(i));
        }
        for (std::size_t i = 0; i < outputs.size(); ++i) context.setOutput(i, stack(context, outputs[i], 0));
    };
}

const OperatorRow kRows[] = {
    {"", "If", 1, makeIf, TypeSet{DType::boolean}, FloatSupport::all},
    {"", "Loop", 1, makeLoop, kStoredTypes, FloatSupport::all},
    {"", "Scan", 8, makeBatchedScan, kStoredTypes, FloatSupport::all},
    {"", "Scan", 9, makeScan, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> controlFlowOperators() { return kRows; }

}  // namespace tcompress::exec
