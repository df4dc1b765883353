#include "lib/exec/program.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <stdexcept>
#include <utility>

#include "kernels/run_kernel.h"
#include "lib/exec/operand_types.h"
#include "lib/exec/shape_analysis.h"
#include "lib/ir/subgraphs.h"
#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

/// Bytes of a constant whose memory is worth some care.
constexpr std::size_t kLarge = 65536;

bool isFloat(DType type) {
    return type == DType::float32 || type == DType::float64 || type == DType::float16 || type == DType::bfloat16;
}

/// Whether an input of this type must be converted to float32 first.
bool needsConversion(FloatSupport support, DType type) {
    switch (support) {
        case FloatSupport::all: return false;
        case FloatSupport::wide: return type == DType::float16 || type == DType::bfloat16;
        case FloatSupport::float32: return isFloat(type) && type != DType::float32;
    }
    return false;
}

/// Times one call of an operator, and listens to its kernels when the entry wants that.
class Timing final : public kernels::KernelWatcher {
  public:
    explicit Timing(Profile::Entry& entry) : entry_(entry), outer_(kernels::kernelWatcher()) {
        kernels::kernelWatcher() = entry.watchesKernels ? this : nullptr;
    }
    ~Timing() override { kernels::kernelWatcher() = outer_; }
    Timing(const Timing&) = delete;

    void selected(std::string_view kernel, std::span<const kernels::Refusal> refusals) override {
        if (kernels_.find(kernel) == std::string::npos) kernels_.append(kernels_.empty() ? "" : " + ").append(kernel);
        for (const kernels::Refusal& refusal : refusals) ++entry_.refusals[{std::string(refusal.kernel), refusal.reason}];
    }
    void finish() {
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
        add(entry_, seconds);
        if (entry_.watchesKernels) add(entry_.byKernel[kernels_], seconds);
    }

  private:
    static void add(Profile::Time& time, double seconds) {
        ++time.calls;
        time.seconds += seconds;
    }

    Profile::Entry& entry_;
    kernels::KernelWatcher* outer_;
    std::string kernels_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Runs body; its errors name the node.
template <class Body>
void atNode(const std::string& where, Body&& body) {
    try {
        body();
    } catch (const DataError& error) {
        throw DataError(fmt::format("{}: {}", where, error.what()));
    } catch (const ModelError& error) {
        throw ModelError(fmt::format("{}: {}", where, error.what()));
    } catch (const KernelError& error) {
        throw KernelError(fmt::format("{}: {}", where, error.what()));
    } catch (const std::out_of_range&) {
        throw ModelError(fmt::format("{}: an input has too few axes, or a list too few entries", where));
    } catch (const std::length_error&) {
        throw ModelError(fmt::format("{}: a list would be longer than memory", where));
    } catch (const std::bad_alloc&) {
        throw ModelError(fmt::format("{}: there is not enough memory", where));
    }
}

}  // namespace

std::string describeNode(const PlanNode& node) {
    return fmt::format("node '{}': operator {} of domain '{}' version {}", node.label(), node.opType(),
                       node.domain.empty() ? "ai.onnx" : node.domain, node.version);
}

Program::Program(PlanGraph graph, Profile& profile, Observer* observer, Use use)
    : graph_(std::move(graph)), use_(use), observer_(observer) {
    observed_.assign(graph_.values.size(), 0);
    if (observer_) {
        for (std::size_t i = 0; i < graph_.values.size(); ++i) {
            const PlanValue& value = graph_.values[i];
            if (value.source && !value.isConstant() && observer_->wants(*value.source)) observed_[i] = 1;
        }
    }
    std::vector<std::string> refusals;
    steps_.reserve(graph_.nodes.size());
    countReaders();
    for (std::size_t i = 0; i < readers_.size(); ++i)
        if (readers_[i] == 0) graph_.values[i].constant = Tensor();  // what optimization has replaced
    // By index: a sub-program that is made meanwhile does not change this list, but constants may be added to values.
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) makeStep(graph_.nodes[i], refusals, profile);
    if (!refusals.empty()) throw KernelError(fmt::format("{}", fmt::join(refusals, "\n")));
    findLifetimes();
    findShapeOnlySteps();
    dropUnreadConstants();
    for (const PlanValue& value : graph_.values) constants_.emplace_back(value.constant);
}

Program::~Program() {
    for (const PlanValue& value : graph_.values)
        if (value.isConstant() && value.constant.sizeBytes() >= kLarge) value.constant.releasePages();
}

void Program::makeStep(const PlanNode& node, std::vector<std::string>& refusals, Profile& profile) {
    const OperatorRow* row = findOperator(node.domain, node.opType(), node.version);
    if (!row) {
        refusals.push_back(fmt::format("{} is not supported", describeNode(node)));
        return;
    }
    Step step;
    step.inputs = node.inputs;
    step.outputs = node.outputs;
    step.floats = row->floats;
    step.where = describeNode(node);
    step.profile = profile.entry(node.opType());
    const DType firstType = node.input(0) == kNoValue ? DType::undefined : graph_.value(node.input(0)).dtype;
    if (firstType != DType::undefined && !row->types.contains(firstType)) {
        refusals.push_back(fmt::format("{} is not supported for elements of type {}", describeNode(node), name(firstType)));
        return;
    }
    for (ValueId& id : step.inputs) {
        const Tensor* constant = graph_.constant(id);
        if (constant && needsConversion(row->floats, constant->dtype())) {
            // Converted once here instead of at every run.
            if (step.resultType == DType::undefined) step.resultType = constant->dtype();
            id = graph_.addConstant(graph_.value(id).name, convert(*constant, DType::float32));
        }
    }
    if (waitsForItsRun(node, step.inputs)) {
        step.run = [this, row, &node, inputs = step.inputs](OpContext& context) {
            NodeInfo info = infoOf(node, inputs);
            std::vector<std::uint8_t> packed(inputs.size(), 0);
            info.packed = &packed;
            row->make(info)(context);
            for (std::size_t i = 0; i < packed.size(); ++i)
                if (packed[i]) info.constants[i]->releasePages();
        };
        steps_.push_back(std::move(step));
        return;
    }
    NodeInfo info = infoOf(node, step.inputs);
    std::vector<std::uint8_t> packed(step.inputs.size(), 0);
    info.packed = &packed;
    info.subprogram = [&](std::string_view attribute) {
        const onnx::GraphProto* body = info.attributes.graph(attribute);
        if (!body) throw ModelError(fmt::format("attribute '{}' holds no sub-graph", attribute));
        PlanGraph inner = planGraphOf(*body, ir::capturedNames(*node.proto), graph_.opsets);
        return std::make_shared<Program>(std::move(inner), profile, nullptr);
    };
    try {
        atNode(step.where, [&] { step.run = row->make(info); });
    } catch (const KernelError& error) {
        refusals.emplace_back(error.what());
        return;
    }
    for (std::size_t i = 0; i < packed.size(); ++i) {
        if (packed[i]) forgetPacked(std::exchange(step.inputs[i], kNoValue));
    }
    steps_.push_back(std::move(step));
}

/// Addresses of constants are taken here: adding values moves them.
NodeInfo Program::infoOf(const PlanNode& node, std::span<const ValueId> inputs) const {
    NodeInfo info{Attributes(*node.proto), node.domain, node.version, {}, {}, {}, {}, {}, node.capturedFrom};
    for (ValueId id : node.inputs) info.inputs.push_back(id != kNoValue);
    for (ValueId id : node.outputs) info.outputs.push_back(id != kNoValue);
    for (ValueId id : inputs) {
        info.types.push_back(id == kNoValue ? DType::undefined : graph_.value(id).dtype);
        info.constants.push_back(graph_.constant(id));
    }
    return info;
}

/// Not nodes with sub-graphs, which hold more than their inputs.
bool Program::waitsForItsRun(const PlanNode& node, std::span<const ValueId> inputs) const {
    const auto holdsGraph = [](const onnx::AttributeProto& attribute) { return attribute.has_g(); };
    if (use_ == Use::repeated || std::ranges::any_of(node.proto->attribute(), holdsGraph)) return false;
    return std::ranges::any_of(inputs, [&](ValueId id) {
        const Tensor* constant = graph_.constant(id);
        return constant != nullptr && constant->sizeBytes() >= kLarge;
    });
}

void Program::countReaders() {
    readers_.assign(graph_.values.size(), 0);
    for (const PlanNode& node : graph_.nodes) {
        for (ValueId id : node.inputs) {
            if (id != kNoValue) ++readers_[static_cast<std::size_t>(id)];
        }
    }
    for (ValueId id : graph_.outputs) ++readers_[static_cast<std::size_t>(id)];
}

/// At once, so that weights are not in memory twice, packed and not, longer than one step.
void Program::forgetPacked(ValueId id) {
    const auto at = static_cast<std::size_t>(id);
    PlanValue& value = graph_.values[at];
    value.constant.releasePages();
    // A constant that was converted for this step alone is not in the counts.
    if (at >= readers_.size() || --readers_[at] == 0) value.constant = Tensor();
}

void Program::dropUnreadConstants() {
    std::vector<std::uint8_t> read(graph_.values.size(), 0);
    for (const Step& step : steps_) {
        for (ValueId id : step.inputs) {
            if (id != kNoValue) read[static_cast<std::size_t>(id)] = 1;
        }
    }
    for (ValueId id : graph_.outputs) read[static_cast<std::size_t>(id)] = 1;
    for (std::size_t i = 0; i < read.size(); ++i) {
        if (!read[i]) graph_.values[i].constant = Tensor();
    }
}

void Program::findLifetimes() {
    observed_.resize(graph_.values.size(), 0);
    std::vector<std::int64_t> lastUse(graph_.values.size(), -1);
    std::vector<std::uint8_t> read(graph_.values.size(), 0);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        for (ValueId id : steps_[i].outputs) {
            if (id != kNoValue) lastUse[static_cast<std::size_t>(id)] = static_cast<std::int64_t>(i);
        }
        for (ValueId id : steps_[i].inputs) {
            if (id == kNoValue) continue;
            lastUse[static_cast<std::size_t>(id)] = static_cast<std::int64_t>(i);
            read[static_cast<std::size_t>(id)] = 1;
        }
    }
    std::vector<std::uint8_t> pinned(graph_.values.size(), 0);
    for (ValueId id : graph_.outputs) pinned[static_cast<std::size_t>(id)] = 1;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        Step& step = steps_[i];
        const auto diesHere = [&](ValueId id) {
            const auto at = static_cast<std::size_t>(id);
            return id != kNoValue && !pinned[at] && !graph_.values[at].isConstant() &&
                   lastUse[at] == static_cast<std::int64_t>(i);
        };
        for (ValueId id : step.inputs) {
            step.dying.push_back(diesHere(id));
            if (diesHere(id)) step.releases.push_back(id);
        }
        for (ValueId id : step.outputs) {
            const auto at = static_cast<std::size_t>(id);
            step.wanted.push_back(id != kNoValue && (read[at] || pinned[at] || observed_[at]));
            if (id != kNoValue && diesHere(id)) step.releases.push_back(id);
        }
    }
}

void Program::findShapeOnlySteps() {
    const std::vector<std::uint8_t> shapeOnly = shapeOnlyValues(graph_);
    frontier_.assign(graph_.values.size(), 0);
    for (Step& step : steps_) {
        step.shapeOnly = !step.outputs.empty() && std::all_of(step.outputs.begin(), step.outputs.end(), [&](ValueId id) {
            return id == kNoValue || (shapeOnly[static_cast<std::size_t>(id)] && !observed_[static_cast<std::size_t>(id)]);
        });
        remembers_ = remembers_ || step.shapeOnly;
        for (ValueId id : step.inputs) {
            if (id != kNoValue && !step.shapeOnly) frontier_[static_cast<std::size_t>(id)] = 1;
        }
    }
    for (ValueId id : graph_.outputs) frontier_[static_cast<std::size_t>(id)] = 1;
}

void Program::observe(ValueId id, const Tensor& tensor) const {
    if (tensor.dtype() == DType::undefined) return;  // sequences and optionals are not observed
    if (id != kNoValue && observed_[static_cast<std::size_t>(id)]) observer_->observe(*graph_.value(id).source, tensor);
}

std::vector<Datum> Program::run(Allocator& allocator, std::vector<Datum> inputs) const {
    TCOMPRESS_CHECK(inputs.size() == graph_.inputs.size(), "a program gets all its inputs");
    std::vector<Datum> slots(graph_.values.size());
    const bool remembers = remembers_ && std::ranges::all_of(inputs, &Datum::isTensor);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        Datum& slot = slots[static_cast<std::size_t>(graph_.inputs[i])];
        slot = std::move(inputs[i]);
        observe(graph_.inputs[i], slot.tensor);
    }
    ShapeKey key;
    if (remembers) {
        for (ValueId id : graph_.inputs) key.push_back(slots[static_cast<std::size_t>(id)].tensor.shape());
    }
    const auto known = remembers ? memory_.find(key) : memory_.end();
    if (known != memory_.end()) {
        for (const auto& [id, value] : known->second) slots[static_cast<std::size_t>(id)] = value;
        for (const Step& step : steps_) {
            if (!step.shapeOnly) runStep(step, allocator, slots);
        }
    } else {
        Remembered remembered;
        for (const Step& step : steps_) {
            runStep(step, allocator, slots);
            if (!step.shapeOnly) continue;
            for (ValueId id : step.outputs) {
                if (id == kNoValue || !frontier_[static_cast<std::size_t>(id)]) continue;
                remembered.emplace_back(id, slots[static_cast<std::size_t>(id)]);
            }
        }
        if (remembers) remember(std::move(key), std::move(remembered));
    }
    std::vector<Datum> outputs;
    for (ValueId id : graph_.outputs) {
        const auto at = static_cast<std::size_t>(id);
        outputs.push_back(constants_[at].isTensor() ? constants_[at] : slots[at]);
    }
    return outputs;
}

std::vector<Tensor> tensorsOf(std::vector<Datum> values) {
    std::vector<Tensor> tensors;
    for (Datum& value : values) {
        if (!value.isTensor()) throw KernelError("an output is a sequence or an optional and not a tensor");
        tensors.push_back(std::move(value.tensor));
    }
    return tensors;
}

void Program::remember(ShapeKey key, Remembered values) const {
    // Of several shapes: inputs of ever new lengths must not take ever more memory. One shape alone may take more, until
    // the next comes: the relative position bias of a T5 has heads × 512 × 512 floats, and takes long to compute.
    constexpr std::size_t kMostBytes = 8 << 20;
    constexpr std::size_t kLargestBytes = 32 << 20;
    constexpr std::size_t kMostShapes = 32;
    std::size_t bytes = 0;
    for (const auto& [id, value] : values) {
        bytes += value.tensor.sizeBytes();
        if (!value.isTensor()) return;
    }
    if (bytes > kLargestBytes) return;
    if (memory_.size() >= kMostShapes || rememberedBytes_ + bytes > kMostBytes) {
        memory_.clear();
        rememberedBytes_ = 0;
    }
    memory_.emplace(std::move(key), std::move(values));
    rememberedBytes_ += bytes;
}

void Program::runStep(const Step& step, Allocator& allocator, std::vector<Datum>& slots) const {
    Timing timing(*step.profile);
    std::vector<const Datum*> inputs(step.inputs.size(), nullptr);
    std::vector<Datum> converted;
    converted.reserve(step.inputs.size());
    DType resultType = step.resultType;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
        const ValueId id = step.inputs[i];
        if (id == kNoValue) continue;
        const auto at = static_cast<std::size_t>(id);
        inputs[i] = constants_[at].isTensor() ? &constants_[at] : &slots[at];
        const DType type = inputs[i]->tensor.dtype();
        if (needsConversion(step.floats, type)) {
            if (resultType == DType::undefined) resultType = type;
            converted.emplace_back(convert(inputs[i]->tensor, DType::float32));
            inputs[i] = &converted.back();
        }
    }
    std::vector<Datum> outputs(step.outputs.size());
    atNode(step.where, [&] {
        OpContext context(allocator, inputs, outputs, step.wanted, step.dying);
        try {
            step.run(context);
        } catch (const InternalError&) {
            const std::string misfit = typeMisfit(graph_.nodes[static_cast<std::size_t>(&step - steps_.data())], inputs);
            if (misfit.empty()) throw;
            throw ModelError(misfit);
        }
    });
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const ValueId id = step.outputs[i];
        if (id == kNoValue) continue;
        Tensor& output = outputs[i].tensor;
        if (resultType != DType::undefined && output.dtype() == DType::float32) output = convert(output, resultType);
        observe(id, output);
        slots[static_cast<std::size_t>(id)] = std::move(outputs[i]);
    }
    for (ValueId id : step.releases) slots[static_cast<std::size_t>(id)] = Datum();
    timing.finish();
}

}  // namespace tcompress::exec
