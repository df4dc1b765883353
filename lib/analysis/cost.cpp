#include "lib/analysis/cost.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "lib/analysis/macs.h"
#include "lib/analysis/scaled_weight.h"
#include "lib/analysis/sparse_storage.h"
#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"

namespace tcompress::analysis {

namespace {

std::string groupOf(SiteRole role) {
    switch (role) {
        case SiteRole::embedding:
        case SiteRole::patchEmbedding:
            return "embedding";
        case SiteRole::attentionQ:
        case SiteRole::attentionK:
        case SiteRole::attentionV:
        case SiteRole::attentionQkv:
        case SiteRole::attentionO:
            return "attention";
        case SiteRole::ffnUp:
        case SiteRole::ffnGate:
        case SiteRole::ffnUpGate:
        case SiteRole::ffnDown:
            return "ffn";
        case SiteRole::pooler:
        case SiteRole::classifier:
            return "classifier";
        case SiteRole::other:
            return "other";
    }
    return "other";
}

/// Elements whose stored bits are not zero; minus zero counts as zero.
template <class Word>
std::int64_t countNonZero(std::span<const std::byte> bytes, Word signMask) {
    const auto count = static_cast<std::int64_t>(bytes.size() / sizeof(Word));
    std::atomic<std::int64_t> total{0};
    parallelRanges(count, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t own = 0;
        for (std::int64_t i = begin; i < end; ++i) {
            Word word;
            std::memcpy(&word, bytes.data() + static_cast<std::size_t>(i) * sizeof(Word), sizeof(Word));
            own += (word & signMask) != 0;
        }
        total += own;
        const auto first = static_cast<std::size_t>(begin) * sizeof(Word);
        releaseIfMapped(bytes.subspan(first, static_cast<std::size_t>(end) * sizeof(Word) - first));
    });
    return total;
}

std::int64_t nonZeroElements(const Tensor& tensor) {
    const bool real = isFloatingPoint(tensor.dtype());
    switch (bitsPerElement(tensor.dtype())) {
        case 8:
            return countNonZero<std::uint8_t>(tensor.bytes(), real ? 0x7F : 0xFF);
        case 16:
            return countNonZero<std::uint16_t>(tensor.bytes(), real ? 0x7FFF : 0xFFFF);
        case 32:
            return countNonZero<std::uint32_t>(tensor.bytes(), real ? 0x7FFFFFFF : 0xFFFFFFFF);
        case 64:
            return countNonZero<std::uint64_t>(tensor.bytes(), real ? ~(1ULL << 63) : ~0ULL);
        default:
            return tensor.size();
    }
}

bool isNormNode(const ir::Node& node) { return node.opType().find("Normalization") != std::string::npos; }

/// What constants are for.
class Roles {
  public:
    Roles(const ir::Model& model, const TransformerView& view) : view_(view) {
        for (const Site& site : view.sites) {
            // A look-up of scales is a site too.
            if (site.weight != nullptr && scaledWeight(*site.weight) != nullptr) continue;
            mark(site.weight, groupOf(site.role));
            if (const auto sparse = sparseStorageBehind(site.operand)) {
                mark(sparse->values, groupOf(site.role));
                mark(sparse->codes, groupOf(site.role));
            }
            mark(site.bias, groupOf(site.role));
        }
        for (const ir::Value* value : model.graph().values()) {
            if (value->constant() != nullptr && byValue_.count(value) == 0) mark(value, guess(*value));
        }
    }

    const std::string& of(const ir::Value* value) const { return byValue_.at(value); }

  private:
    void mark(const ir::Value* value, const std::string& role) {
        if (value != nullptr) byValue_.try_emplace(value, role);
    }

    std::string guess(const ir::Value& value) const {
        // Scales and zero points belong to what they scale.
        if (const ir::Value* weight = scaledWeight(value)) {
            const auto found = byValue_.find(weight);
            return found != byValue_.end() ? found->second : "other";
        }
        if (!isFloatingPoint(value.constant()->dtype())) return "other";
        const Shape& shape = value.constant()->shape();
        const auto wide = std::count_if(shape.begin(), shape.end(), [](std::int64_t d) { return d > 1; });
        for (const ir::Use& use : value.uses()) {
            if (use.node == nullptr) continue;
            if (isNormNode(*use.node) && use.index >= 1) return "norm";
            const bool stream = view_.hiddenSize > 1 && !shape.empty() && shape.back() == view_.hiddenSize;
            const bool affine = use.node->is("Mul") || use.node->is("Add");
            if (stream && wide == 1 && affine) return "norm";
            // Position and class embeddings that are added or prepended, not looked up.
            if (stream && (use.node->is("Add") || use.node->is("Concat") || use.node->is("Expand")))
                return "embedding";
        }
        return "other";
    }

    const TransformerView& view_;
    std::unordered_map<const ir::Value*, std::string> byValue_;
};

/// What of sparse storage counts how: by value.
struct SparseCounts {
    std::unordered_map<const ir::Value*, std::int64_t> elements;  ///< of the constant behind stored values
    std::unordered_set<const ir::Value*> marks;                   ///< say where the values are

    explicit SparseCounts(const ir::Model& model) {
        for (const auto& node : model.graph().nodes()) {
            const auto storage = sparseStorage(*node);
            if (!storage) continue;
            elements[storage->values] = storage->elements;
            marks.insert({storage->codes, storage->patterns});
        }
    }
};

/// Elements that were trained: not shape constants, not quantization scales, not the shifts that unpack codes.
/// Weights packed by MatMulNBits count unpacked.
std::int64_t parameterCount(const ir::Value& value, const SparseCounts& sparse) {
    if (sparse.marks.contains(&value)) return 0;
    if (const auto found = sparse.elements.find(&value); found != sparse.elements.end()) return found->second;
    const DType type = value.constant()->dtype();
    if (type == DType::int64 || type == DType::boolean || type == DType::string) return 0;
    if (isInteger(type) && value.constant()->size() == 1) return 0;
    if (scaledWeight(value) != nullptr) return 0;
    for (const ir::Use& use : value.uses()) {
        if (use.node == nullptr || use.index != 1) continue;
        if (use.node->opType() == "BitShift") return 0;
        if (use.node->opType() == "MatMulNBits")
            return use.node->attributeInt("K", 0) * use.node->attributeInt("N", 0);
    }
    return value.constant()->size();
}

std::string computeType(const ir::Node& node, const ir::Value& a, const ir::Value& b) {
    const std::string& type = node.opType();
    if (type.find("Integer") != std::string::npos || type.rfind("QLinear", 0) == 0 ||
        type.rfind("DynamicQuantize", 0) == 0) {
        return "int8";
    }
    const auto dequantized = [](const ir::Value& value) {
        return value.producer() != nullptr && value.producer()->opType() == "DequantizeLinear";
    };
    if (dequantized(a) && dequantized(b)) return "int8";
    for (const ir::Value* value : {static_cast<const ir::Value*>(node.output()), &a, &b}) {
        if (value != nullptr && isFloatingPoint(value->dtype())) return std::string(name(value->dtype()));
    }
    return "float32";
}

}  // namespace

ModelCost cost(const ir::Model& model, const TransformerView& view, std::int64_t sequenceLength) {
    ModelCost total;
    const Roles roles(model, view);
    const SparseCounts sparse(model);
    for (const ir::Value* value : model.graph().values()) {
        const Tensor* data = value->constant();
        if (data == nullptr) continue;
        RoleCost& role = total.byRole[roles.of(value)];
        const std::int64_t parameters = parameterCount(*value, sparse);
        role.bytes += static_cast<std::int64_t>(data->sizeBytes());
        role.parameters += parameters;
        if (parameters == 0) continue;
        const bool asStored = parameters == data->size() || sparse.elements.contains(value);
        role.nonZero += asStored ? nonZeroElements(*data) : parameters;
    }

    const ModelAxes& axes = *view.axes;
    const ReferenceShapes reference = referenceShapes(model, sequenceLength);
    total.sequenceLength = reference.sequenceLength;
    std::unordered_map<const ir::Node*, std::string> roleOfNode;
    for (const Site& site : view.sites) roleOfNode[site.node] = groupOf(site.role);
    const auto add = [&](const std::string& role, std::int64_t macs, const std::string& type) {
        if (macs == 0) return;
        total.byRole[role].macs += macs;
        total.macsByType[type] += macs;
    };
    for (const LinearContraction& linear : axes.linears) {
        add(roleOfNode.at(linear.node), linearMacs(axes, linear, reference.shapes),
            computeType(*linear.node, *linear.input, *linear.weight));
    }
    const std::string inner = view.isTransformer() ? "attention" : "other";
    for (const ActivationMatmul& matmul : axes.activationMatmuls) {
        add(inner, matmulMacs(matmul, reference.shapes), computeType(*matmul.node, *matmul.a, *matmul.b));
    }
    for (const FusedAttention& fused : axes.fusedAttentions) {
        add(inner, attentionMacs(axes, fused, reference.shapes),
            computeType(*fused.node, *fused.query, *fused.key));
    }
    for (const auto& node : model.graph().nodes()) {
        const std::int64_t macs = groupedConvMacs(*node, reference.shapes);
        if (macs > 0) add("other", macs, computeType(*node, *node->input(0), *node->input(1)));
    }
    for (const auto& [name, role] : total.byRole) {
        total.parameters += role.parameters;
        total.bytes += role.bytes;
        total.nonZero += role.nonZero;
        total.macs += role.macs;
    }
    return total;
}

}  // namespace tcompress::analysis
