#include "passes/prune/budget/anatomy.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "lib/analysis/shrink.h"
#include "passes/low_rank/factor_products.h"
#include "passes/support/unit_readers.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;

/// What decides about the cost of a part: its kind and the matrices of its sites.
std::string shapeOf(const TransformerView& view, const UnitLayers& layers, std::int64_t units) {
    std::string text = fmt::format("{} {}", layers.layers.front().kind == UnitKind::heads ? "heads" : "neurons", units);
    for (const UnitLayer& layer : layers.layers)
        for (const auto* sites : {&layer.producers, &layer.consumers})
            for (const std::size_t index : *sites) {
                const analysis::Site& site = view.sites[index];
                text += fmt::format(" {}x{}", site.inFeatures, site.outFeatures);
            }
    return text;
}

/// All numbers of a few units, else sixteenths and a thirty-second.
std::vector<std::int64_t> numbersToKeep(std::int64_t units, std::int64_t multiple) {
    constexpr std::int64_t kMostSteps = 16;
    std::vector<std::int64_t> keeps;
    const auto add = [&](std::int64_t keep) {
        keep = std::clamp<std::int64_t>((keep + multiple - 1) / multiple * multiple, 1, units);
        if (keeps.empty() || keep < keeps.back()) keeps.push_back(keep);
    };
    if (units <= kMostSteps) {
        for (std::int64_t keep = units; keep > 0; --keep) keeps.push_back(keep);
        return keeps;
    }
    for (std::int64_t step = kMostSteps; step > 0; --step) add(units * step / kMostSteps);
    add(units / (2 * kMostSteps));
    return keeps;
}

/// Sublayers that can be cut out, attention and feed-forward alike, in the order of the graph, and the layer of the
/// view that each is.
struct Sublayers {
    std::vector<LayerSpan> spans;
    std::map<std::pair<UnitKind, std::size_t>, std::size_t> place;
};

Sublayers sublayers(const TransformerView& view) {
    struct Entry {
        LayerSpan span;
        UnitKind kind;
        std::size_t index;
    };
    std::vector<Entry> entries;
    for (const auto& [part, kind] : {std::pair{LayerPart::attention, UnitKind::heads},
                                     std::pair{LayerPart::feedForward, UnitKind::neurons}}) {
        const std::vector<LayerSpan> spans = layerSpans(view, part);
        for (std::size_t i = 0; i < spans.size(); ++i)
            if (spans[i].isDroppable()) entries.push_back({spans[i], kind, i});
    }
    const auto position = [](const Entry& entry) {
        return entry.span.output->producer() == nullptr ? std::size_t{0} : entry.span.output->producer()->position();
    };
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const Entry& a, const Entry& b) { return position(a) < position(b); });
    Sublayers result;
    for (Entry& entry : entries) {
        result.place[{entry.kind, entry.index}] = result.spans.size();
        result.spans.push_back(std::move(entry.span));
    }
    return result;
}

/// Width of the residual stream at a value.
std::int64_t widthOf(const TransformerView& view, const ir::Value* value) {
    const auto shape = view.axes->shapes.shape(*value);
    return shape && !shape->empty() ? shape->back() : view.hiddenSize;
}

/// Names of the matrices that a part's sites read; none when one of them cannot become a product of two.
std::vector<std::string> factorableMatrices(const UnitWeights& weights, const TransformerView& view, const UnitLayers& layers) {
    std::set<const analysis::Site*> sites;
    for (const UnitLayer& layer : layers.layers)
        for (const auto* indices : {&layer.producers, &layer.consumers})
            for (const std::size_t index : *indices) sites.insert(&view.sites[index]);
    std::vector<std::string> names;
    std::size_t found = 0;
    for (const TargetWeight& weight : weights.all()) {
        if (!sites.contains(weight.sites.front())) continue;
        const bool isUsable = refitRefusal(weight).empty() && weight.constant->constant()->rank() == 2 &&
                              std::all_of(weight.sites.begin(), weight.sites.end(), [&](const analysis::Site* site) {
                                  return sites.contains(site) && factorRefusal(*site).empty();
                              });
        if (!isUsable) return {};
        found += weight.sites.size();
        names.push_back(weight.constant->name());
    }
    return found == sites.size() ? names : std::vector<std::string>();
}

/// Shares at which ranks are looked at.
constexpr std::array<std::int64_t, 4> kRankPercents = {70, 50, 35, 25};

}  // namespace

std::int64_t rankAt(std::int64_t percent, std::int64_t m, std::int64_t n, std::int64_t multiple) {
    return std::max(percent * m * n / (100 * (m + n)) / multiple * multiple, multiple);
}

std::vector<std::int64_t> Part::fewerUnits() const {
    std::vector<std::int64_t> result;
    for (const PartChoice& choice : choices)
        if (!choice.isRanks() && !choice.isDropped() && choice.units < units) result.push_back(choice.units);
    return result;
}

std::vector<std::int64_t> Part::rankPercents() const {
    std::vector<std::int64_t> result;
    for (const PartChoice& choice : choices)
        if (choice.isRanks()) result.push_back(choice.rankPercent);
    return result;
}

std::size_t Part::indexOf(const PartChoice& choice) const {
    return static_cast<std::size_t>(std::find(choices.begin(), choices.end(), choice) - choices.begin());
}

Assignment Anatomy::whole() const {
    Assignment assignment;
    for (const Part& part : parts) assignment.push_back(part.units);
    return assignment;
}

Assignment Anatomy::smallest() const {
    Assignment assignment;
    for (const Part& part : parts) {
        const std::vector<std::int64_t> fewer = part.fewerUnits();
        assignment.push_back(part.canGo() ? 0 : fewer.empty() ? part.units : fewer.back());
    }
    return assignment;
}

std::vector<LayerRun> Anatomy::runs(const Assignment& assignment) const {
    std::set<std::size_t> dropped;
    for (std::size_t i = 0; i < parts.size(); ++i)
        if (assignment[i].isDropped()) dropped.insert(*parts[i].span);
    return runsOf(spans, dropped);
}

bool PartGroup::isDropped(const Assignment& assignment) const {
    return canGo && std::all_of(parts.begin(), parts.end(), [&](std::size_t part) { return assignment[part].isDropped(); });
}

Anatomy dissect(const TransformerView& view, const AnatomyOptions& options, pipeline::PassReport& report) {
    Anatomy anatomy;
    anatomy.multiple = options.multiple;
    const UnitWeights weights(view);
    Sublayers found = sublayers(view);
    anatomy.spans = std::move(found.spans);
    const std::vector<UnitLayer> heads = attentionUnits(view), neurons = feedForwardUnits(view);
    std::vector<UnitLayer> all = heads;
    all.insert(all.end(), neurons.begin(), neurons.end());
    const auto indexOf = [](const std::vector<UnitLayer>& layers, const UnitLayer& layer) {
        return static_cast<std::size_t>(
            std::find_if(layers.begin(), layers.end(), [&](const UnitLayer& other) { return other.name == layer.name; }) -
            layers.begin());
    };
    std::map<int, std::vector<std::size_t>> byBlock;
    int alone = -1;
    for (UnitLayers& layers : targetLayers(view, all, options.targets, options.ignore, report)) {
        const UnitLayer& first = layers.layers.front();
        Part part;
        part.name = first.name;
        part.units = view.axes->store->leafSize(layers.leaf);
        part.shape = shapeOf(view, layers, part.units);
        for (const std::int64_t keep : numbersToKeep(part.units, first.kind == UnitKind::neurons ? options.multiple : 1))
            part.choices.emplace_back(keep);
        if (options.ranks) part.matrices = factorableMatrices(weights, view, layers);
        if (!part.matrices.empty())
            for (const std::int64_t percent : kRankPercents) part.choices.emplace_back(part.units, percent);
        if (options.dropSublayers && layers.layers.size() == 1) {
            const auto place = found.place.find({first.kind, indexOf(first.kind == UnitKind::heads ? heads : neurons, first)});
            if (place != found.place.end()) {
                part.span = place->second;
                part.choices.emplace_back(0);
            }
        }
        const int block = first.consumers.empty() ? -1 : view.sites[first.consumers.front()].block;
        part.layers = std::move(layers);
        byBlock[block >= 0 && part.layers.layers.size() == 1 ? block : alone--].push_back(anatomy.parts.size());
        anatomy.parts.push_back(std::move(part));
    }
    for (auto& [block, parts] : byBlock) {
        PartGroup group{std::move(parts), nullptr, block < 0 ? -1 : block, false};
        if (block >= 0) group.input = view.blocks[static_cast<std::size_t>(block)].input;
        Assignment dropped = anatomy.whole();
        for (const std::size_t part : group.parts) dropped[part] = 0;
        group.canGo = group.parts.size() > 1 &&
                      std::all_of(group.parts.begin(), group.parts.end(),
                                  [&](std::size_t part) { return anatomy.parts[part].canGo(); }) &&
                      anatomy.runs(dropped).size() == 1;
        anatomy.blocks.push_back(std::move(group));
    }
    return anatomy;
}

namespace {

/// Zeros of the factors' shapes in the place of matrices.
void factorise(ir::Model& model, const Anatomy& anatomy, const Assignment& assignment) {
    if (std::none_of(assignment.begin(), assignment.end(), [](const PartChoice& choice) { return choice.isRanks(); })) return;
    const TransformerView view = analysis::recognise(model);
    const UnitWeights weights(view);
    ir::Edit edit(model, "budget");
    for (std::size_t i = 0; i < anatomy.parts.size(); ++i) {
        if (!assignment[i].isRanks()) continue;
        for (const std::string& name : anatomy.parts[i].matrices) {
            const TargetWeight& weight = *weights.find(name);
            const Shape& shape = weight.constant->constant()->shape();
            const std::int64_t rank = rankAt(assignment[i].rankPercent, shape[0], shape[1], anatomy.multiple);
            replaceByFactors(edit, weight, Tensor(DType::float32, {shape[0], rank}), Tensor(DType::float32, {rank, shape[1]}));
        }
    }
    edit.commit();
}

}  // namespace

ir::Model shaped(const ir::Model& model, const Anatomy& anatomy, const Assignment& assignment) {
    ir::Model result = model.clone();
    analysis::KeepMasks masks;
    for (std::size_t i = 0; i < anatomy.parts.size(); ++i) {
        const Part& part = anatomy.parts[i];
        if (assignment[i].isDropped() || assignment[i].units == part.units) continue;
        std::vector<bool>& mask = masks[part.layers.leaf];
        mask.assign(static_cast<std::size_t>(part.units), false);
        std::fill_n(mask.begin(), assignment[i].units, true);
    }
    const TransformerView view = analysis::recognise(result);
    std::vector<LayerRun> runs = anatomy.runs(assignment);
    for (LayerRun& run : runs) {
        const std::int64_t inputs = widthOf(view, result.graph().find(run.input));
        run.patch = LinearLayer{std::vector<double>(static_cast<std::size_t>(inputs * inputs)),
                                std::vector<double>(static_cast<std::size_t>(inputs))};
    }
    if (!masks.empty()) analysis::shrink(result, *view.axes, masks, "budget");
    factorise(result, anatomy, assignment);
    pipeline::PassReport unused;
    for (const LayerRun& run : runs) cutOut(result, run, "budget", unused);
    return result;
}

}  // namespace tcompress::passes
