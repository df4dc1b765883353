#include "passes/quantize/floating/half_graph.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/support/counted.h"
#include "lib/support/error.h"
#include "passes/quantize/floating/half_range.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

using pipeline::PassReport;

/// Operators whose definition wants float32 somewhere, or whose results in float16 would be another thing
/// (counting, choosing, drawing random numbers).
bool needsFloat32(const ir::Node& node) {
    static const std::set<std::string_view> operators = {"Bernoulli",
                                                         "CumSum",
                                                         "DequantizeLinear",
                                                         "DynamicQuantizeLinear",
                                                         "EyeLike",
                                                         "GridSample",
                                                         "MatMulInteger",
                                                         "Multinomial",
                                                         "NonMaxSuppression",
                                                         "OneHot",
                                                         "QLinearConv",
                                                         "QLinearMatMul",
                                                         "QuantizeLinear",
                                                         "RandomNormal",
                                                         "RandomNormalLike",
                                                         "RandomUniform",
                                                         "RandomUniformLike",
                                                         "Range",
                                                         "Resize",
                                                         "RoiAlign",
                                                         "TopK",
                                                         "Unique",
                                                         "Upsample"};
    return operators.contains(node.opType()) || (!node.domain().empty() && node.domain() != "com.microsoft");
}

bool exceeds(float value) { return std::fabs(value) > kLargestHalf; }

class HalfGraph {
  public:
    HalfGraph(ir::Model& model, const pipeline::PassContext& context, const char* pass)
        : model_(model), context_(context), pass_(pass), edit_(model, pass) {}

    PassReport run() {
        ir::inferTypes(model_);
        for (const auto& node : model_.graph().nodes()) check(*node);
        if (context_.hasCalibration()) range_ = HalfRange(model_, context_, pass_);
        findBlocks();
        for (const auto& node : model_.graph().nodes()) {
            if (node->is("Constant")) continue;
            if (staysFloat32(*node))
                keep(*node);
            else
                narrow(*node);
        }
        for (ir::Value* output : model_.graph().outputs())
            if (halfValues_.contains(output)) widenOutput(output);
        edit_.commit();
        ir::inferTypes(model_);
        for (const auto& [block, kept] : keptByBlock_)
            report_.skipped.push_back(
                {block < 0 ? std::string("outside the blocks") : fmt::format("block {}", block),
                 fmt::format("{} stay{} float32: {}", counted(kept.nodes, "node"), kept.nodes == 1 ? "s" : "",
                             kept.reason)});
        report_.changed.push_back({"graph", fmt::format("{} nodes compute in float16", narrowed_)});
        return std::move(report_);
    }

  private:
    void check(const ir::Node& node) const {
        if (node.hasSubgraph())
            throw PassError(
                fmt::format("{}: node '{}' ({}) has a sub-graph, which compute=full cannot cast; use "
                            "compute=storage",
                            pass_, node.label(), node.opType()));
        for (const ir::Value* value : node.outputs())
            if (value != nullptr && value->dtype() == DType::undefined)
                throw PassError(
                    fmt::format("{}: the type of '{}' ({} '{}') is not known, and compute=full needs "
                                "it; use compute=storage",
                                pass_, value->name(), node.opType(), node.label()));
    }

    static bool isFloat(const ir::Value* value) {
        return value != nullptr && value->dtype() == DType::float32;
    }

    /// The block of each node: what lies between its input and its output in the order of the file.
    void findBlocks() {
        const auto& blocks = context_.view(model_).blocks;
        int block = -1;
        for (const auto& node : model_.graph().nodes()) {
            blockOf_[node.get()] = block;
            for (std::size_t i = 0; i < blocks.size(); ++i)
                for (const ir::Value* output : node->outputs()) {
                    if (output == nullptr) continue;
                    if (output == blocks[i].output && block == static_cast<int>(i)) block = -1;
                    if (output == blocks[i].input) block = static_cast<int>(i);
                }
        }
    }

    /// Because of its definition, or of values that float16 does not have: weights, or what it reads and puts
    /// out on calibration data.
    bool staysFloat32(const ir::Node& node) {
        if (needsFloat32(node)) return true;
        const ir::Value* culprit = nullptr;
        std::string problem;
        const auto look = [&](const ir::Value* value) {
            if (culprit != nullptr || !isFloat(value)) return;
            if (value->constant() == nullptr)
                problem = range_.problem(value);
            else
                problem = halfProblem(*value->constant());
            if (!problem.empty()) culprit = value;
        };
        for (const ir::Value* output : node.outputs()) look(output);
        for (const ir::Value* input : node.inputs()) look(input);
        if (culprit == nullptr) return false;
        Kept& kept = keptByBlock_[blockOf_.at(&node)];
        if (kept.nodes++ == 0) kept.reason = fmt::format("'{}' {}", culprit->name(), problem);
        return true;
    }

    void narrow(ir::Node& node) {
        bool hasFloat = false;
        for (std::size_t i = 0; i < node.inputs().size(); ++i) {
            ir::Value* input = node.input(i);
            if (!isFloat(input)) continue;
            hasFloat = true;
            if (ir::Value* half = asHalf(input); half != input) edit_.replaceInput(&node, i, half);
        }
        for (ir::Value* output : node.outputs()) {
            if (!isFloat(output)) continue;
            halfValues_.insert(output);
            hasFloat = true;
        }
        if (!hasFloat) return;
        ++narrowed_;
        const auto half = static_cast<std::int64_t>(DType::float16);
        if (node.is("Cast") && isFloat(node.output())) edit_.setAttribute(&node, {"to", half});
        if (node.is("ConstantOfShape") && isFloat(node.output())) narrowFill(node);
    }

    void narrowFill(ir::Node& node) {
        float value = 0;
        if (const auto* attribute = node.attribute("value"); attribute != nullptr) {
            const auto& tensor = attribute->t();
            value = tensor.float_data_size() > 0 ? tensor.float_data(0)
                                                 : *reinterpret_cast<const float*>(tensor.raw_data().data());
        }
        edit_.setAttribute(&node, {"value", Tensor::of<Half>({1}, {toHalf(clamped(value, node.label()))})});
    }

    void keep(ir::Node& node) {
        for (std::size_t i = 0; i < node.inputs().size(); ++i) {
            ir::Value* input = node.input(i);
            if (halfValues_.contains(input)) edit_.replaceInput(&node, i, asFloat(input));
        }
    }

    float clamped(float value, const std::string& where) {
        if (!exceeds(value)) return value;
        report_.notes.push_back(fmt::format("'{}': {} becomes {}, the largest float16", where, value,
                                            std::copysign(kLargestHalf, value)));
        return std::copysign(kLargestHalf, value);
    }

    /// The float16 form of a float32 value.
    ir::Value* asHalf(ir::Value* value) {
        if (halfValues_.contains(value)) return value;
        ir::Value*& half = halves_[value];
        if (half != nullptr) return half;
        const Tensor* constant = value->constant();
        if (constant == nullptr) {
            half = emitCast(edit_, value, DType::float16);
        } else if (constant->size() == 1) {
            const float number = clamped(constant->data<float>()[0], value->name());
            half = edit_.addInitializer(value->name() + "_float16",
                                        Tensor::of<Half>(constant->shape(), {toHalf(number)}));
        } else {
            half = edit_.addInitializer(value->name() + "_float16", convert(*constant, DType::float16));
        }
        return half;
    }

    ir::Value* asFloat(ir::Value* half) {
        ir::Value*& value = floats_[half];
        if (value == nullptr) value = emitCast(edit_, half, DType::float32);
        return value;
    }

    /// The Cast takes the output's name; the users inside keep the float16 value.
    void widenOutput(ir::Value* output) {
        ir::Value* wide = asFloat(output);
        std::vector<const ir::Node*> inside{wide->producer()};
        for (const ir::Use& use : output->uses())
            if (use.node != nullptr) inside.push_back(use.node);
        edit_.replaceAllUses(output, wide, std::move(inside));
    }

    struct Kept {
        std::size_t nodes = 0;
        std::string reason;  ///< of the first
    };

    ir::Model& model_;
    const pipeline::PassContext& context_;
    const char* pass_;
    ir::Edit edit_;
    PassReport report_;
    std::set<const ir::Value*> halfValues_;  ///< float32 before, made by a node that is narrowed
    std::unordered_map<const ir::Value*, ir::Value*> halves_, floats_;
    std::size_t narrowed_ = 0;
    HalfRange range_;
    std::unordered_map<const ir::Node*, int> blockOf_;
    std::map<int, Kept> keptByBlock_;
};

}  // namespace

PassReport castGraphToHalf(ir::Model& model, const pipeline::PassContext& context, const char* pass) {
    return HalfGraph(model, context, pass).run();
}

}  // namespace tcompress::passes
