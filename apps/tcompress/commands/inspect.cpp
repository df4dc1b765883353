// tcompress inspect: what a model is made of, as far as it is recognised.

#include <fmt/core.h>
#include <fmt/format.h>

#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/tcompress/command.h"
#include "apps/tcompress/tables.h"
#include "lib/analysis/cost.h"
#include "lib/ir/load.h"
#include "lib/pipeline/records.h"
#include "lib/report/text.h"
#include "lib/support/counted.h"

namespace tcompress::cli {

namespace {

using analysis::AttentionLayer;
using analysis::FeedForward;
using analysis::Site;
using analysis::TransformerView;
using nlohmann::json;

struct Options {
    std::string model;
    std::int64_t sequenceLength = 128;
    bool json = false;
    bool sites = false;
};

struct Inspection {
    const ir::Model& model;
    const TransformerView& view;
    analysis::ModelCost cost;
    std::uint64_t fileBytes;
    std::string file;
};

/// "7 × LayerNormalization".
std::string normText(const TransformerView& view) {
    std::vector<std::string> parts;
    for (const analysis::NormCount& norm : view.norms)
        parts.push_back(fmt::format("{} × {}", norm.count, norm.kind));
    return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string embeddingText(const TransformerView& view) {
    std::vector<std::string> parts;
    for (const Site& site : view.sites) {
        if (site.role != analysis::SiteRole::embedding || site.weight == nullptr) continue;
        const std::optional<Shape> shape = site.weight->shape();
        parts.push_back(fmt::format("{} {}", site.weight->name(), shape ? toString(*shape) : ""));
    }
    return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string headText(const AttentionLayer& layer) {
    std::string text = fmt::format("{} × {}", layer.heads, layer.headDim);
    if (layer.kvHeads != layer.heads) text += fmt::format(", {} key/value heads", layer.kvHeads);
    if (layer.valueDim != layer.headDim) text += fmt::format(", values {}", layer.valueDim);
    if (layer.cross) text += ", cross";
    return text;
}

std::string ffnText(const FeedForward& layer) {
    std::string text = fmt::format("{} {}", layer.width, analysis::name(layer.activation));
    if (layer.gated) text += ", gated";
    if (layer.sharedBy > 1) text += fmt::format(", shared by {}", layer.sharedBy);
    return text;
}

std::string blockTable(const TransformerView& view) {
    std::vector<std::vector<std::string>> rows = {{"block", "heads × size", "feed-forward", "norm"}};
    for (std::size_t i = 0; i < view.blocks.size(); ++i) {
        std::vector<std::string> heads, widths;
        analysis::NormPlacement norm = analysis::NormPlacement::unknown;
        for (const std::size_t index : view.blocks[i].attention) {
            heads.push_back(headText(view.attention[index]));
            norm = view.attention[index].norm;
        }
        for (const std::size_t index : view.blocks[i].feedForward) {
            widths.push_back(ffnText(view.feedForward[index]));
            if (norm == analysis::NormPlacement::unknown) norm = view.feedForward[index].norm;
        }
        rows.push_back({std::to_string(i), fmt::format("{}", fmt::join(heads, "; ")),
                        fmt::format("{}", fmt::join(widths, "; ")), std::string(analysis::name(norm))});
    }
    return renderTable(rows, {Align::right, Align::left, Align::left, Align::left});
}

std::string costTable(const analysis::ModelCost& cost) {
    std::vector<std::vector<std::string>> rows = {{"role", "parameters", "non-zero", "bytes", "MACs"}};
    const auto add = [&](const std::string& role, std::int64_t parameters, std::int64_t nonZero,
                         std::int64_t bytes, std::int64_t macs) {
        const double share =
            parameters > 0 ? 100.0 * static_cast<double>(nonZero) / static_cast<double>(parameters) : 0.0;
        rows.push_back({role, shortCount(parameters), fmt::format("{:.1f} %", share),
                        report::bytesText(static_cast<std::uint64_t>(bytes)), shortCount(macs)});
    };
    for (const auto& [role, part] : cost.byRole)
        add(role, part.parameters, part.nonZero, part.bytes, part.macs);
    add("all", cost.parameters, cost.nonZero, cost.bytes, cost.macs);
    return renderTable(rows, {Align::left, Align::right, Align::right, Align::right, Align::right});
}

std::string siteTable(const TransformerView& view) {
    std::vector<std::vector<std::string>> rows = {{"site", "role", "block", "in", "out", "weight"}};
    for (const Site& site : view.sites)
        rows.push_back({site.name, std::string(analysis::name(site.role)),
                        site.block < 0 ? "" : std::to_string(site.block), std::to_string(site.inFeatures),
                        std::to_string(site.outFeatures), site.weight != nullptr ? site.weight->name() : ""});
    return renderTable(rows,
                       {Align::left, Align::left, Align::right, Align::right, Align::right, Align::left});
}

std::string refusalLines(const TransformerView& view) {
    std::string text;
    for (std::size_t i = 0; i < view.attention.size(); ++i)
        for (const std::string& reason : view.attention[i].refusals)
            text += fmt::format("  heads of attention {} cannot be removed: {}\n", i, reason);
    for (std::size_t i = 0; i < view.feedForward.size(); ++i)
        for (const std::string& reason : view.feedForward[i].refusals)
            text += fmt::format("  neurons of feed-forward {} cannot be removed: {}\n", i, reason);
    for (const analysis::Unrecognised& item : view.notRecognised)
        text += fmt::format("  {}: {}\n", item.place, item.reason);
    return text;
}

std::string inspectionText(const Inspection& found, bool sites) {
    const TransformerView& view = found.view;
    std::string text =
        fmt::format("{}: {}, opset {}, {} nodes\n", found.file, report::bytesText(found.fileBytes),
                    found.model.opset(), found.model.graph().nodes().size());
    if (!view.isTransformer()) {
        text += "no Transformer: no attention was recognised\n";
    } else {
        text += fmt::format("Transformer: {}, {}, {}, hidden size {}\n", counted(view.blocks.size(), "block"),
                            counted(view.attention.size(), "attention layer"),
                            counted(view.feedForward.size(), "feed-forward layer"), view.hiddenSize);
        text += "\n" + blockTable(view);
    }
    text += fmt::format("\nnorms       {}\nembeddings  {}\n\n", normText(view), embeddingText(view));
    text += costTable(found.cost);
    text += fmt::format("MACs are for {}\n", sampleText(found.cost));
    if (sites) text += "\n" + siteTable(view);
    if (const std::string refusals = refusalLines(view); !refusals.empty())
        text += "\nnot recognised:\n" + refusals;
    return text;
}

json attentionJson(const AttentionLayer& layer) {
    return {{"heads", layer.heads},         {"kv_heads", layer.kvHeads}, {"head_size", layer.headDim},
            {"value_size", layer.valueDim}, {"cross", layer.cross},      {"norm", analysis::name(layer.norm)},
            {"refusals", layer.refusals}};
}

json feedForwardJson(const FeedForward& layer) {
    return {{"width", layer.width},
            {"gated", layer.gated},
            {"activation", analysis::name(layer.activation)},
            {"norm", analysis::name(layer.norm)},
            {"shared_by", layer.sharedBy},
            {"refusals", layer.refusals}};
}

json inspectionJson(const Inspection& found) {
    const TransformerView& view = found.view;
    json document = {{"file", found.file},
                     {"bytes", found.fileBytes},
                     {"opset", found.model.opset()},
                     {"nodes", found.model.graph().nodes().size()},
                     {"transformer", view.isTransformer()},
                     {"hidden_size", view.hiddenSize},
                     {"sequence_length", found.cost.sequenceLength}};
    document["blocks"] = json::array();
    for (const analysis::Block& block : view.blocks)
        document["blocks"].push_back({{"attention", block.attention}, {"feed_forward", block.feedForward}});
    document["attention"] = json::array();
    for (const AttentionLayer& layer : view.attention) document["attention"].push_back(attentionJson(layer));
    document["feed_forward"] = json::array();
    for (const FeedForward& layer : view.feedForward)
        document["feed_forward"].push_back(feedForwardJson(layer));
    document["norms"] = json::array();
    for (const analysis::NormCount& norm : view.norms)
        document["norms"].push_back({{"kind", norm.kind}, {"count", norm.count}});
    document["sites"] = json::array();
    for (const Site& site : view.sites)
        document["sites"].push_back({{"name", site.name},
                                     {"role", analysis::name(site.role)},
                                     {"block", site.block},
                                     {"in_features", site.inFeatures},
                                     {"out_features", site.outFeatures},
                                     {"weight", site.weight != nullptr ? json(site.weight->name()) : json()},
                                     {"macs", site.macs}});
    const auto costJson = [](const auto& cost) {
        return json{{"parameters", cost.parameters},
                    {"non_zero", cost.nonZero},
                    {"bytes", cost.bytes},
                    {"macs", cost.macs}};
    };
    document["cost"] = costJson(found.cost);
    document["cost"]["by_role"] = json::object();
    for (const auto& [role, cost] : found.cost.byRole) document["cost"]["by_role"][role] = costJson(cost);
    document["not_recognised"] = json::array();
    for (const analysis::Unrecognised& item : view.notRecognised)
        document["not_recognised"].push_back({{"place", item.place}, {"reason", item.reason}});
    return document;
}

ExitCode execute(const Options& options) {
    const ir::Model model = ir::load(options.model);
    const TransformerView view = analysis::recognise(model);
    const Inspection found{model, view, analysis::cost(model, view, options.sequenceLength),
                           pipeline::filesBytes(options.model), options.model};
    std::cout << (options.json ? inspectionJson(found).dump(2) + "\n" : inspectionText(found, options.sites));
    return ExitCode::done;
}

}  // namespace

Command inspectCommand() {
    auto options = std::make_shared<Options>();
    Command command{"inspect", "show what a model is made of and what was not recognised", {}, {}};
    command.options.positional("MODEL", options->model, Presence::required, "ONNX file");
    command.options.flag("--json", options->json, "print JSON, with every site");
    command.options.flag("--sites", options->sites,
                         "list each linear layer and table with the names that targets match");
    command.options.integer("--sequence", "N", options->sequenceLength, {1, 1 << 20},
                            "tokens that MACs are counted for");
    command.action = [options](Session&) { return execute(*options); };
    return command;
}

}  // namespace tcompress::cli
