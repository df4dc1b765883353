// Weights that pruning has set to zero stop taking bytes in the file: constants are stored without their zeros where that is
// smaller, and the graph puts the zeros back (support/sparse_form.h).
//
//   MatMul(x, W)   →   MatMul(x, Reshape(Gather(values, …places…)))
//
// Outputs stay as they are. Runtimes fold the nodes when they load the model, so an inference takes neither more nor less
// time than with the zeros in the file. ONNX's own sparse_initializer is read, not written: its 64-bit indices take 12 bytes
// for each float32 that stays, more than a bitmask until 98 % are zero, and ONNX's shape inference does not know it.
// Not handled: constants in sub-graphs, codes packed below 8 bits.

#include <fmt/core.h>

#include <map>
#include <set>

#include "lib/analysis/targets.h"
#include "passes/passes.h"
#include "passes/store_sparse/stored_constants.h"
#include "passes/support/raised_opset.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "store-sparse";
struct Options {
    SparseStorageKind storage = SparseStorageKind::automatic;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .choice("storage", &Options::storage,
                {{"auto", SparseStorageKind::automatic},
                 {"bitmask", SparseStorageKind::bitmask},
                 {"n:m", SparseStorageKind::grouped}},
                "how the places of the values that stay are stored: a bit an entry; or, where of every M entries at most N "
                "stay, the number of their combination (2:4: 2/3 bit an entry, 1:4: 1/2 bit); auto takes the smaller for each "
                "constant")
        .option("targets", &Options::targets, "sites whose weights are stored so, by patterns; left out: every constant")
        .option("ignore", &Options::ignore, "sites whose weights stay as they are, by patterns");
    return table;
}

/// Constants that the patterns name, in the order of the graph.
std::vector<ir::Value*> candidates(const ir::Model& model, const Options& options, const PassContext& context) {
    std::set<const ir::Value*> named, ignored;
    const auto constantsOf = [&](const std::vector<std::string>& targets, const std::vector<std::string>& ignore) {
        std::set<const ir::Value*> result;
        const analysis::TransformerView& view = context.view(model);
        for (const std::size_t index : analysis::SitePatterns(targets, ignore).select(view))
            result.insert(view.sites[index].weight);
        return result;
    };
    if (!options.targets.empty()) named = constantsOf(options.targets, options.ignore);
    if (!options.ignore.empty()) ignored = constantsOf(options.ignore, {});
    std::vector<ir::Value*> result;
    for (ir::Value* value : model.graph().values())
        if (value->constant() != nullptr && !ignored.contains(value) && (options.targets.empty() || named.contains(value)))
            result.push_back(value);
    return result;
}

/// The site that reads the constant; the constant's own name when there is none.
std::string siteOf(const std::map<std::string, std::string>& sites, const std::string& constant) {
    const auto found = sites.find(constant);
    return found == sites.end() ? constant : found->second;
}

std::string textOf(const StoredConstant& stored) {
    const SparseForm& form = stored.form;
    const double share = static_cast<double>(form.zeros) / static_cast<double>(elementCount(stored.shape));
    return fmt::format("{} {}, {:.1f} % {}: {}, {} bytes to {}, {:.2f} bytes a zero", name(stored.dtype), toString(stored.shape),
                       100 * share, isFloatingPoint(stored.dtype) ? "zeros" : "of one value",
                       form.isGrouped() ? fmt::format("{}:{}", form.keep, form.group) : "a bitmask", stored.wholeBytes, form.bytes,
                       static_cast<double>(stored.wholeBytes - form.bytes) / static_cast<double>(form.zeros));
}

class StoreSparse : public pipeline::Pass {
  public:
    explicit StoreSparse(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        raiseOpsetFor(model, kOpsetOfSparseForm, "sums over places", kPass, report);
        std::map<std::string, std::string> sites;  // by the names of their weights
        for (const analysis::Site& site : context.view(model).sites)
            if (site.weight != nullptr) sites.try_emplace(site.weight->name(), site.name);
        const SparseOutcome outcome = storeWithoutZeros(model, candidates(model, options_, context), options_.storage, kPass);
        for (const LeftConstant& left : outcome.left) report.skipped.push_back({siteOf(sites, left.name), left.reason});
        if (outcome.stored.empty()) return report;
        std::int64_t zeros = 0;
        for (const StoredConstant& stored : outcome.stored) {
            zeros += stored.form.zeros;
            report.changed.push_back({siteOf(sites, stored.name), textOf(stored), 0.0});
        }
        const double each = static_cast<double>(outcome.bytesSaved) / static_cast<double>(zeros);
        report.notes.push_back(fmt::format(
            "{} zeros are worth {} bytes of the file, {:.2f} each, and no time: runtimes put them back when they load the "
            "model and multiply them like other numbers",
            zeros, outcome.bytesSaved, each));
        return report;
    }

  private:
    Options options_;
};

}  // namespace

pipeline::PassInfo storeSparse() {
    pipeline::PassInfo info;
    info.type = "store-sparse";
    info.summary = "zeros of pruned weights take no bytes: a bitmask or N:M places, and the values that stay";
    info.details =
        "Stores float32, float16, bfloat16 and 8-bit integer constants without their zeros (integers: without their most "
        "frequent value) where that makes the file smaller; standard operators of opset 11 put them back, which runtimes do once, "
        "when they load the model. No output changes but for the sign of a zero, and no inference is faster or slower. Goes "
        "behind prune and, with 8-bit weights, behind quantize: passes after it do not look through it.";
    bindOptions<StoreSparse>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
