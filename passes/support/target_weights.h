#pragma once
// The constant weights behind the sites that a pass works on, each once however many sites share it.

#include <cstddef>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/pipeline/pass.h"

namespace tcompress::passes {

struct TargetWeight {
    /// Initializer or Constant node's output: float32, all its users known.
    ir::Value* constant = nullptr;
    std::vector<const analysis::Site*> sites;
    /// Axis of the constant that products sum over (for an embedding: the axis along a row).
    std::size_t inAxis = 0;
    /// The other axis of a matrix; of a convolution's kernel, its first.
    std::size_t outAxis = 1;

    /// What reports call it: its first site.
    const std::string& name() const { return sites.front()->name; }
    bool hasEmbedding() const;
    bool hasLinear() const;
};

/// An embedding table: read by row numbers, not multiplied.
bool isEmbedding(const analysis::Site& site);

struct WeightQuery {
    std::vector<std::string> targets, ignore;
    /// Whether embedding tables are targets when `targets` is empty.
    enum class Tables { always, whenNamed };
    Tables tables = Tables::always;
    /// Weights with fewer values are skipped: they are not worth what the pass does to them.
    std::int64_t fewestValues = 0;
    /// The same for embedding tables.
    std::int64_t fewestTableValues = 0;
};

/// The weights of the sites that targets and ignore leave, in the view's order. A weight that cannot be a
/// target becomes a skipped site with the reason: it is computed, or quantized already, or not float32, or
/// used by a site that the patterns leave out, or by something that is no site.
std::vector<TargetWeight> targetWeights(const analysis::TransformerView& view, const WeightQuery& query,
                                        pipeline::PassReport& report);

/// Below this a weight's new nodes and scales take about as many bytes as a narrower type saves.
inline constexpr std::int64_t kFewestValuesToStoreNarrower = 256;
/// A small table (token types) is added to every token: its error costs more than its few bytes are worth.
inline constexpr std::int64_t kFewestTableValuesToStoreNarrower = 1024;

/// Adds a skipped entry for each of the weight's sites.
void skip(pipeline::PassReport& report, const TargetWeight& weight, const std::string& reason);

/// Why a weight that cannot be rounded is left alone.
inline constexpr const char* kNotFinite = "its weight holds NaN or infinity";

/// "float32 [384, 1536]".
std::string describe(const Tensor& tensor);

}  // namespace tcompress::passes
