#pragma once
// What a model is made of, recognised from axis relations (not from operator patterns): blocks of attention
// and feed-forward layers on a residual stream. Plain data; pointers are into the model it was made from and
// are valid for that revision only.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/analysis/axes.h"
#include "lib/ir/model.h"

namespace tcompress::analysis {

enum class NormPlacement { unknown, pre, post };
enum class ActivationKind { unknown, relu, geluErf, geluTanh, silu, quickGelu, hardSwish };
std::string_view name(NormPlacement placement);
std::string_view name(ActivationKind kind);

enum class SiteRole {
    other,
    embedding,
    attentionQ,
    attentionK,
    attentionV,
    attentionQkv,  ///< fused projection
    attentionO,
    ffnUp,
    ffnGate,
    ffnUpGate,  ///< fused up and gate
    ffnDown,
    pooler,
    classifier,
    patchEmbedding,
};
/// "attention.q", "ffn.up", "embedding", "classifier" …: what targets say after "role:".
std::string_view name(SiteRole role);
/// All role names, in order: for messages and for `role:` patterns.
std::vector<std::string> roleNames();

/// A linear layer or an embedding table: a place where weights live.
struct Site {
    std::string name;          ///< the node's label: what reports call it and globs match
    ir::Node* node = nullptr;  ///< MatMul, Gemm, Conv, Gather …
    /// The stored matrix: an initializer or the output of a Constant node. Where several stored tensors make
    /// it, it is `operand` and has no constant() data.
    ir::Value* weight = nullptr;
    /// What the node reads: the weight itself, or what DequantizeLinear, Cast, Transpose … make of it.
    ir::Value* operand = nullptr;
    ir::Value* input = nullptr;  ///< the activations; the indices of an embedding
    ir::Value* output = nullptr;
    /// Constant vector added right behind, or Gemm's C; null when there is none.
    ir::Value* bias = nullptr;
    /// The node that adds it (Add, BiasGelu, SkipLayerNormalization); null when inside `node`.
    ir::Node* biasNode = nullptr;
    SiteRole role = SiteRole::other;
    int block = -1;  ///< index of the block, -1 outside
    std::int64_t inFeatures = 0;
    std::int64_t outFeatures = 0;
    /// Axis of `weight` that is contracted with the input (0 for MatMul's B [K, N]; 0, the rows, for an
    /// embedding). They describe matrices and convolutions: an Einsum may have weights of more axes, whose
    /// in and out features are products of several.
    std::size_t inAxis = 0;
    std::size_t outAxis = 1;
    /// Multiply-accumulates at the reference input (batch 1, 128 tokens or as many as fit); MACs of one row
    /// are inFeatures × outFeatures. A convolution's inFeatures are channels × kernel.
    std::int64_t macs = 0;
};

struct AttentionLayer {
    std::vector<std::size_t> q, k, v, o;  ///< indices into TransformerView::sites
    std::int64_t heads = 0;
    std::int64_t kvHeads = 0;
    std::int64_t headDim = 0;
    std::int64_t valueDim = 0;
    bool cross = false;
    NormPlacement norm = NormPlacement::unknown;
    ir::Node* softmax = nullptr;  ///< or the fused attention node
    /// The residual stream going in (before a pre-norm) and coming out (after the Add; after the norm for
    /// post-norm). Replacing the uses of output by input drops the layer. Both null when no single value is
    /// the output (a fused pre-norm, SkipLayerNormalization with two outputs) or no residual addition was
    /// found. Branches in parallel (attention and feed-forward from one norm, GPT-NeoX) share input, output
    /// and residualAdd: they go together.
    ir::Value* input = nullptr;
    ir::Value* output = nullptr;
    ir::Node* residualAdd = nullptr;
    /// Leaf whose removal removes a KV group with its queries (size kvHeads; -1 when that is 1), and the leaf
    /// of queries per group (size heads / kvHeads; -1 when that is 1), whose removal removes the same query
    /// of every group.
    AtomId groupLeaf = -1;
    AtomId repeatLeaf = -1;
    std::vector<AtomId> headDimLeaves, valueDimLeaves;
    /// Why heads cannot be removed; empty when they can.
    std::vector<std::string> refusals;
};

struct FeedForward {
    std::vector<std::size_t> up, down;  ///< up holds the gate too when gated
    /// Those of `up` that the activation is applied to; empty when fused with up, or not gated.
    std::vector<std::size_t> gate;
    std::int64_t width = 0;
    bool gated = false;
    ActivationKind activation = ActivationKind::unknown;
    NormPlacement norm = NormPlacement::unknown;
    ir::Value* input = nullptr;
    ir::Value* output = nullptr;
    ir::Node* residualAdd = nullptr;
    /// The width: one leaf, or its factors when something splits it (blocks of a quantization).
    std::vector<AtomId> widthLeaves;
    /// How many layers use the same weights (ALBERT-like sharing).
    int sharedBy = 1;
    std::vector<std::string> refusals;
};

/// A layer of the Transformer: what drop-layers removes. Its input and output have the same shape (the
/// residual stream); null when it cannot be dropped by replacing one value (see AttentionLayer).
struct Block {
    std::vector<std::size_t> attention;    ///< indices into TransformerView::attention
    std::vector<std::size_t> feedForward;  ///< indices into TransformerView::feedForward
    ir::Value* input = nullptr;
    ir::Value* output = nullptr;
};

struct NormCount {
    std::string kind;  ///< "LayerNormalization", "LayerNormalization (decomposed)", "RMSNormalization" …
    int count = 0;
};

struct Unrecognised {
    std::string place;
    std::string reason;
};

struct TransformerView {
    bool isTransformer() const { return !attention.empty(); }
    std::int64_t hiddenSize = 0;
    std::vector<AttentionLayer> attention;
    std::vector<FeedForward> feedForward;
    std::vector<Block> blocks;
    std::vector<Site> sites;  ///< linear layers and embedding tables in graph order, recognised role or not
    std::vector<NormCount> norms;
    std::vector<Unrecognised> notRecognised;
    std::shared_ptr<const ModelAxes> axes;
};

/// Never throws for a model it does not understand: such a model has no attention layers and says why.
TransformerView recognise(const ir::Model& model);

}  // namespace tcompress::analysis
