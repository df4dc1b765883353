#pragma once
// The steps of recognition share this state. Each step is one file: recognise_attention.cpp,
// recognise_feed_forward.cpp, recognise_blocks.cpp, recognise_sites.cpp; recognise.cpp calls them in order.
// Private to lib/analysis.

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "lib/analysis/leaf_guard.h"
#include "lib/analysis/transformer_view.h"

namespace tcompress::analysis {

using LeafSet = std::set<AtomId>;
using ValueSet = std::unordered_set<const ir::Value*>;

bool intersects(const LeafSet& a, const LeafSet& b);
bool contains(const LeafSet& whole, const LeafSet& part);
LeafSet intersection(const LeafSet& a, const LeafSet& b);

class ViewBuilder {
  public:
    explicit ViewBuilder(const ir::Model& model);
    TransformerView build();

  private:
    // recognise.cpp
    void findResidualLeaves();
    void countNorms();
    void noteWhatIsMissing();

    // recognise_attention.cpp
    void findAttention();
    bool addAttention(const AxisEvent& softmax, std::string& reason);
    void addFusedAttention(const FusedAttention& fused);
    const ActivationMatmul* scoreMatmul(const ir::Node& softmax) const;
    const ActivationMatmul* contextMatmul(const ir::Node& softmax, ValueSet& path) const;
    void setHeads(AttentionLayer& layer, const std::vector<AtomId>& heads,
                  const std::vector<AtomId>& kvHeads);
    bool isCross(const AttentionLayer& layer) const;

    // recognise_feed_forward.cpp
    void findFeedForward();
    void addFeedForward(const std::vector<std::size_t>& up, std::size_t down,
                        const std::vector<AtomId>& leaves, int sharedBy);

    // recognise_blocks.cpp
    struct Residual {
        ir::Node* add = nullptr;
        ir::Value* input = nullptr;
        ir::Value* output = nullptr;
        NormPlacement placement = NormPlacement::unknown;
    };
    /// The addition that joins the branch from `branchInput` to `branchOutput` with the stream it left.
    Residual findResidual(const ir::Value* branchInput, const ir::Value* branchOutput) const;
    ir::Value* endOfNorm(ir::Value* start) const;
    void groupBlocks();

    // recognise_sites.cpp
    void listSites();
    void findBias(Site& site, const LeafSet& out) const;
    std::vector<Site> embeddingSites(ir::Node& node) const;
    void assignRoles();
    void assignOuterRoles();
    bool reachesOutput(const ir::Value* value) const;

    // Walks over the graph (graph_walks.cpp).
    LeafSet leavesOf(const Axis& axis) const;
    bool carries(const ir::Value* value, const LeafSet& leaves) const;
    /// Linear layers whose outputs reach `value` through tensors that carry one of `wanted`, which they
    /// produce.
    std::vector<std::size_t> producingLinears(const ir::Value* value, const LeafSet& wanted) const;
    /// Linear layers that contract one of `wanted`, reached from `value` through tensors that carry it.
    std::vector<std::size_t> consumingLinears(const ir::Value* value, const LeafSet& wanted) const;
    /// `value` and what it was computed from without passing a product, following the residual stream only.
    ValueSet streamBehind(const ir::Value* value) const;
    /// The value behind Identity, Cast, Dropout and (de)quantization.
    const ir::Value* source(const ir::Value* value) const;
    /// The linear layer whose output this is but for casts, quantization, scales and biases.
    std::optional<std::size_t> linearBehind(const ir::Value* value) const;
    /// A layer written as a product of two (low rank) or more: its first and last factor, itself when it is
    /// one.
    std::size_t firstFactor(std::size_t linear) const;
    std::size_t lastFactor(std::size_t linear) const;
    void findFactors();
    std::size_t linearOfSite(std::size_t site) const;
    /// What a layer reads and makes, through all its factors.
    ir::Value* inputOf(std::size_t site) const;
    ir::Value* outputOf(std::size_t site) const;
    bool isProduct(const ir::Node& node) const { return productNodes_.count(&node) != 0; }

    const ir::Model& model_;
    std::shared_ptr<const ModelAxes> axes_;
    const AxisStore& store_;
    LeafGuard guard_;
    TransformerView view_;

    std::vector<LeafSet> linearIn_, linearOut_;
    LeafSet allIn_, allOut_, residual_, graphInputLeaves_;
    std::unordered_map<const ir::Value*, std::vector<std::size_t>> linearsByOutput_, linearsByInput_;
    std::unordered_map<const ir::Value*, std::size_t> matmulByOutput_;
    std::unordered_set<const ir::Node*> productNodes_;
    std::unordered_set<const ir::Node*> fusedNodes_;
    /// Index of a linear layer in view_.sites.
    std::vector<std::size_t> siteOfLinear_;
    /// The factor before and behind each linear layer.
    std::vector<std::optional<std::size_t>> factorBefore_, factorBehind_;
};

}  // namespace tcompress::analysis
