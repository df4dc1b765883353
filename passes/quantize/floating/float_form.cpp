#include "passes/quantize/floating/float_form.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "lib/analysis/targets.h"
#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "passes/quantize/storage/integer_product.h"
#include "lib/ir/emit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using analysis::TransformerView;
using pipeline::PassContext;

/// What a query leaves, as nodes.
struct Chosen {
    std::vector<const Site*> sites;
    std::set<const ir::Node*> nodes;  ///< of the sites, and those that add their biases
    bool everything = false;
};
Chosen choose(const TransformerView& view, const FloatFormQuery& query) {
    Chosen chosen;
    chosen.everything = query.targets.empty() && query.ignore.empty();
    for (const std::size_t index : analysis::SitePatterns(query.targets, query.ignore).select(view)) {
        const Site& site = view.sites[index];
        chosen.sites.push_back(&site);
        chosen.nodes.insert(site.node);
        if (site.biasNode != nullptr) chosen.nodes.insert(site.biasNode);
    }
    return chosen;
}

/// Values that no input of the model reaches, as the executor computes them.
std::map<const ir::Value*, Tensor> computed(const ir::Model& model, const std::set<const ir::Value*>& wanted) {
    std::map<const ir::Value*, Tensor> result;
    std::vector<const ir::Value*> open;
    for (const ir::Value* value : wanted) {
        if (value->constant() != nullptr)
            result.emplace(value, *value->constant());
        else
            open.push_back(value);
    }
    if (open.empty()) return result;
    exec::ExecutorOptions options;
    options.fusion = exec::Fusion::none;
    options.outputs = open;
    const std::vector<Tensor> tensors = exec::Executor(model, std::move(options)).run({});
    for (std::size_t i = 0; i < open.size(); ++i) result.emplace(open[i], tensors[i]);
    return result;
}

bool isConstant(const TransformerView& view, const ir::Value* value) {
    return value->constant() != nullptr || view.axes->constant(value);
}

/// What a value is after the values before it were replaced.
class Replacements {
  public:
    explicit Replacements(ir::Edit& edit) : edit_(edit) {}
    ir::Value* now(ir::Value* value) const {
        const auto found = by_.find(value);
        return found == by_.end() ? value : found->second;
    }
    void replace(ir::Value* from, ir::Value* to) {
        edit_.replaceAllUses(from, to);
        by_[from] = to;
    }

  private:
    ir::Edit& edit_;
    std::map<const ir::Value*, ir::Value*> by_;
};

/// The node becomes MatMul(x, weights) [+ bias], which stands for `result`.
void becomeMatMul(ir::Edit& edit, Replacements& values, ir::Node& node, ir::Value* x, const std::string& name,
                  const Tensor& weights, ir::Value* bias, ir::Value* result) {
    edit.setOpType(&node, "MatMul");
    for (const auto& attribute : std::vector(node.proto().attribute().begin(), node.proto().attribute().end()))
        edit.removeAttribute(&node, attribute.name());
    edit.replaceInput(&node, 0, values.now(x));
    edit.replaceInput(&node, 1, edit.addInitializer(name, weights));
    for (std::size_t i = node.inputs().size(); i-- > 2;) edit.replaceInput(&node, i, nullptr);
    ir::Value* output = node.output();
    if (bias != nullptr) {
        ir::Value* sum = emit(edit, "Add", {output, bias});
        edit.replaceAllUses(output, sum, {sum->producer()});
        output = sum;
    }
    if (result != node.output()) values.replace(result, output);
}

std::size_t restoreProducts(ir::Model& model, const PassContext& context, const FloatFormQuery& query,
                            std::string_view pass) {
    const TransformerView& view = context.view(model);
    std::vector<IntegerProduct> products;
    std::vector<ir::Node*> packed;
    std::set<const ir::Value*> wanted;
    const auto want = [&](const std::vector<const ir::Value*>& constants) {
        const bool known = std::all_of(constants.begin(), constants.end(), [&](const auto* value) { return isConstant(view, value); });
        if (known) wanted.insert(constants.begin(), constants.end());
        return known;
    };
    for (const Site* site : choose(view, query).sites) {
        if (const auto product = integerProduct(*site->node)) {
            if (want(product->constants())) products.push_back(*product);
        } else if (site->node->is("com.microsoft", "MatMulNBits")) {
            std::vector<const ir::Value*> operands{site->node->input(1), site->node->input(2)};
            if (site->node->input(3) != nullptr) operands.push_back(site->node->input(3));
            if (want(operands)) packed.push_back(site->node);
        }
    }
    const auto constants = computed(model, wanted);
    ir::Edit edit(model, std::string(pass));
    Replacements values(edit);
    std::size_t restored = 0;
    for (ir::Node* node : packed) {
        const Tensor* zeroPoints = node->input(3) == nullptr ? nullptr : &constants.at(node->input(3));
        const auto weights = unpackedNBits(*node, constants.at(node->input(1)), constants.at(node->input(2)), zeroPoints);
        if (!weights) continue;
        becomeMatMul(edit, values, *node, node->input(0), node->input(1)->name() + "_float", *weights, node->input(5),
                     node->output());
        ++restored;
    }
    for (const IntegerProduct& product : products) {
        std::vector<Tensor> own;
        for (const ir::Value* value : product.constants()) own.push_back(constants.at(value));
        const auto weights = floatWeights(product, own);
        if (!weights) continue;
        becomeMatMul(edit, values, *product.node, product.input, product.codes->name() + "_float", *weights, product.bias,
                     product.result);
        ++restored;
    }
    edit.commit();
    return restored;
}

/// Whether the operand is a stored float32 matrix, as it is or transposed.
bool isFloatMatrix(const ir::Value* operand) {
    while (operand->constant() == nullptr && operand->producer() != nullptr &&
           (operand->producer()->is("Transpose") || operand->producer()->is("Identity")))
        operand = operand->producer()->input(0);
    return operand->constant() != nullptr && operand->constant()->dtype() == DType::float32;
}

bool isFloat(const ir::Value* value) { return value->dtype() == DType::float32 || value->dtype() == DType::undefined; }

void restoreConstantsAndActivations(ir::Model& model, const PassContext& context, const FloatFormQuery& query,
                                    std::string_view pass, FloatFormCounts& counts) {
    const TransformerView& view = context.view(model);
    const Chosen chosen = choose(view, query);
    const auto touchesChosen = [&](const ir::Node* node) { return chosen.everything || chosen.nodes.contains(node); };
    std::set<const ir::Value*> wanted;
    for (const Site* site : chosen.sites)
        if (site->operand->constant() == nullptr && isConstant(view, site->operand) && isFloat(site->operand) &&
            !isFloatMatrix(site->operand))
            wanted.insert(site->operand);
    counts.weights += wanted.size();
    std::vector<const ir::Node*> pairs;
    for (const auto& node : model.graph().nodes()) {
        if (!node->is("DequantizeLinear") || !isFloat(node->output())) continue;
        const auto& uses = node->output()->uses();
        const bool readByChosen = std::all_of(uses.begin(), uses.end(), [&](const ir::Use& use) {
            return use.kind == ir::UseKind::input && touchesChosen(use.node);
        });
        if (isConstant(view, node->output())) {
            if (readByChosen) wanted.insert(node->output());
            continue;
        }
        const ir::Node* quantize = node->input(0)->producer();
        if (quantize == nullptr || !quantize->is("QuantizeLinear") || !isFloat(quantize->input(0))) continue;
        const ir::Node* maker = quantize->input(0)->producer();
        if (readByChosen || chosen.everything || (maker != nullptr && chosen.nodes.contains(maker))) pairs.push_back(node.get());
    }
    counts.quantizers += pairs.size();
    const auto constants = computed(model, wanted);
    ir::Edit edit(model, std::string(pass));
    Replacements values(edit);
    for (const auto& [value, tensor] : constants)
        values.replace(const_cast<ir::Value*>(value), edit.addInitializer(value->name() + "_float", convert(tensor, DType::float32)));
    for (const ir::Node* dequantize : pairs)
        values.replace(dequantize->output(), values.now(dequantize->input(0)->producer()->input(0)));
    edit.commit();
}

/// What is computed from look-ups of integers by the same numbers alone, up to the float32 rows that the model goes on
/// with.
struct CodedRows {
    ir::Node* lookUp = nullptr;
    ir::Value* indices = nullptr;
    ir::Value* rows = nullptr;
    std::int64_t count = 0;
};

bool isLookUp(const ir::Node& node) {
    return (node.is("Gather") && node.attributeInt("axis", 0) == 0) ||
           (node.is("com.microsoft", "GatherBlockQuantized") && node.attributeInt("gather_axis", 0) == 0);
}

/// Whether the map gives every number a place of its own.
bool isPermutation(const Tensor& map) {
    if (map.rank() != 1 || !isInteger(map.dtype())) return false;
    std::vector<std::int64_t> places = toInt64(map);
    std::sort(places.begin(), places.end());
    for (std::size_t i = 0; i < places.size(); ++i)
        if (places[i] != static_cast<std::int64_t>(i)) return false;
    return true;
}

/// The numbers that rows have before a map says where they lie (tiered_table.h). A map that gives several numbers one row
/// is the model's (prune/embedding-rows): behind it a table would hold that row once for each of them.
ir::Value* numbersOf(ir::Value* places, std::int64_t& count) {
    for (ir::Value* at = places; at != nullptr && at->producer() != nullptr; at = at->producer()->input(0)) {
        const ir::Node& node = *at->producer();
        if (isLookUp(node)) {
            const Tensor* map = node.input(0) == nullptr ? nullptr : node.input(0)->constant();
            if (map == nullptr || node.input(1) == nullptr || !isPermutation(*map)) break;
            count = map->size();
            return node.input(1);
        }
        if (!node.is("Cast") && !node.is("Sub") && !node.is("Max") && !node.is("Min")) break;
    }
    return places;
}

/// The way from row numbers to rows.
class RowDecoder {
  public:
    RowDecoder(const TransformerView& view, const ir::Model& model, ir::Value* indices) : view_(view), indices_(indices) {
        if (indices->shape()) rank_ = indices->shape()->size();
        known_.insert(indices);
        for (const auto& node : model.graph().nodes())
            if (belongs(*node)) known_.insert(node->output());
    }

    /// The last value that the look-up goes into with all that is read beside it; null where there is none.
    ir::Value* rowsBehind(const ir::Node& lookUp) const {
        ir::Value* last = nullptr;
        std::set<ir::Value*> seen{lookUp.output()};
        for (std::vector<ir::Value*> open{lookUp.output()}; !open.empty();) {
            ir::Value* value = open.back();
            open.pop_back();
            const bool isLater = last == nullptr || value->producer()->position() > last->producer()->position();
            if (isLater && isRows(value, lookUp)) last = value;
            for (const ir::Use& use : value->uses())
                if (use.kind == ir::UseKind::input && known_.contains(use.node->output()) &&
                    seen.insert(use.node->output()).second)
                    open.push_back(use.node->output());
        }
        return last;
    }

  private:
    /// Whether the node works on each row by itself, with nothing but small constants besides.
    bool belongs(const ir::Node& node) const {
        if (node.outputs().size() != 1 || node.output() == nullptr || !keepsRows(node)) return false;
        bool any = false;
        for (std::size_t i = 0; i < node.inputs().size(); ++i) {
            const ir::Value* input = node.input(i);
            if (input == nullptr) continue;
            if (known_.contains(input))
                any = true;
            else if (!isConstant(view_, input) || !(isLookUp(node) || node.is("DequantizeLinear") || isSmall(input)))
                return false;
        }
        return any && !(isLookUp(node) && known_.contains(node.input(0)));
    }

    /// Shifts, offsets, shapes and factors; positions and norms belong to the model.
    static bool isSmall(const ir::Value* value) {
        const Tensor* constant = value->constant();
        return constant != nullptr && constant->rank() <= 1 && (constant->size() == 1 || isInteger(constant->dtype()));
    }

    bool keepsRows(const ir::Node& node) const {
        static const std::set<std::string_view> elementwise{"Cast", "BitShift", "Mul", "Add", "Sub", "Div", "Mod", "Where",
                                                            "Less", "Max", "Min", "DequantizeLinear", "Identity"};
        if (isLookUp(node) || (node.domain().empty() && elementwise.contains(node.opType()))) return true;
        if (node.is("Slice")) return integers(node, 3) == std::vector<std::int64_t>{-1};
        if (node.is("Unsqueeze")) {
            const auto axes = node.inputs().size() > 1 ? integers(node, 1) : node.attributeInts("axes");
            return axes == std::vector<std::int64_t>{-1};
        }
        if (!node.is("Reshape") || !rank_ || node.attributeInt("allowzero", 0) != 0) return false;
        const auto shape = integers(node, 1);
        return shape && shape->size() > *rank_ && std::all_of(shape->begin(), shape->begin() + static_cast<std::ptrdiff_t>(*rank_),
                                                              [](std::int64_t size) { return size == 0; });
    }

    static std::optional<std::vector<std::int64_t>> integers(const ir::Node& node, std::size_t input) {
        if (node.inputs().size() <= input || node.input(input) == nullptr) return std::nullopt;
        const Tensor* constant = node.input(input)->constant();
        if (constant == nullptr || constant->dtype() != DType::int64) return std::nullopt;
        const auto values = constant->data<std::int64_t>();
        return std::vector<std::int64_t>(values.begin(), values.end());
    }

    /// Whether `value` is decoded rows, and nothing else reads what it is made of.
    bool isRows(const ir::Value* value, const ir::Node& lookUp) const {
        const std::size_t rank = rank_ ? *rank_ : 1;
        if (!isFloat(value) || (value->shape() && value->shape()->size() != rank + 1)) return false;
        std::set<const ir::Node*> makers;
        std::vector<const ir::Value*> open{value};
        while (!open.empty()) {
            const ir::Node* maker = open.back()->producer();
            open.pop_back();
            if (!makers.insert(maker).second) continue;
            for (const ir::Value* input : maker->inputs())
                if (input != nullptr && input != indices_ && known_.contains(input)) open.push_back(input);
        }
        bool isDecoded = false;
        for (const ir::Node* maker : makers) {
            isDecoded = isDecoded || maker->is("Mul") || maker->is("DequantizeLinear") || (isLookUp(*maker) && isFloat(maker->output()));
            if (maker == value->producer()) continue;
            const auto& uses = maker->output()->uses();
            if (!std::all_of(uses.begin(), uses.end(), [&](const ir::Use& use) {
                    return use.kind == ir::UseKind::input && makers.contains(use.node);
                }))
                return false;
        }
        return isDecoded && makers.contains(&lookUp);
    }

    const TransformerView& view_;
    ir::Value* indices_;
    std::optional<std::size_t> rank_;  ///< of the indices
    std::set<const ir::Value*> known_;
};

std::optional<CodedRows> codedRows(const TransformerView& view, const ir::Model& model, ir::Node& node) {
    if (!isLookUp(node)) return std::nullopt;
    const Tensor* table = node.input(0)->constant();
    if (table == nullptr || !isInteger(table->dtype()) || bitsPerElement(table->dtype()) > 8 || table->rank() != 2 ||
        table->size() == 0)
        return std::nullopt;
    CodedRows found{&node, nullptr, nullptr, table->shape()[0]};
    found.indices = numbersOf(node.input(1), found.count);
    if (isConstant(view, found.indices)) return std::nullopt;
    found.rows = RowDecoder(view, model, found.indices).rowsBehind(node);
    if (found.rows == nullptr) return std::nullopt;
    return found;
}

/// The whole table: the rows of all indices.
std::optional<Tensor> decodedTable(const ir::Model& model, const CodedRows& coded) {
    const auto rank = coded.indices->shape() ? coded.indices->shape()->size() : 1;
    Shape shape(std::max<std::size_t>(rank, 1), 1);
    shape.back() = coded.count;
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(coded.count));
    std::iota(numbers.begin(), numbers.end(), 0);
    const Tensor indices = Tensor::of<std::int64_t>(shape, std::span<const std::int64_t>(numbers));
    exec::ExecutorOptions options;
    options.fusion = exec::Fusion::none;
    if (!coded.indices->isGraphInput()) options.inputs = {coded.indices};
    options.outputs = {coded.rows};
    const DType type = coded.indices->dtype() == DType::int32 ? DType::int32 : DType::int64;
    const Tensor rows =
        exec::Executor(model, std::move(options)).run({{coded.indices->name(), convert(indices, type)}}).front();
    if (rows.dtype() != DType::float32 || rows.size() % coded.count != 0) return std::nullopt;
    return Tensor::of<float>({coded.count, rows.size() / coded.count}, rows.data<float>());
}

std::size_t restoreTables(ir::Model& model, const PassContext& context, const FloatFormQuery& query,
                          std::string_view pass) {
    const TransformerView& view = context.view(model);
    const Chosen chosen = choose(view, query);
    // Parts of one table are sites of their own.
    std::vector<std::pair<CodedRows, Tensor>> tables;
    std::set<const ir::Value*> seen;
    for (const Site* site : chosen.sites) {
        const auto coded = codedRows(view, model, *site->node);
        if (!coded || !seen.insert(coded->rows).second) continue;
        if (auto table = decodedTable(model, *coded)) tables.emplace_back(*coded, std::move(*table));
    }
    ir::Edit edit(model, std::string(pass));
    for (const auto& [coded, table] : tables) {
        ir::Node* node = coded.lookUp;
        const std::string name = node->input(0)->name() + "_float";
        if (!node->is("Gather")) {
            edit.setOpType(node, "Gather");
            for (const auto& attribute : std::vector(node->proto().attribute().begin(), node->proto().attribute().end()))
                edit.removeAttribute(node, attribute.name());
            for (std::size_t i = node->inputs().size(); i-- > 2;) edit.replaceInput(node, i, nullptr);
        }
        edit.replaceInput(node, 0, edit.addInitializer(name, table));
        edit.replaceInput(node, 1, coded.indices);
        if (coded.rows != node->output()) edit.replaceAllUses(coded.rows, node->output());
    }
    edit.commit();
    return tables.size();
}

}  // namespace

FloatFormCounts restoreFloatForm(ir::Model& model, const PassContext& context, const FloatFormQuery& query,
                                 std::string_view pass) {
    FloatFormCounts counts;
    counts.weights = restoreProducts(model, context, query, pass);
    restoreConstantsAndActivations(model, context, query, pass, counts);
    counts.tables = restoreTables(model, context, query, pass);
    return counts;
}

void restoreToRequantize(ir::Model& model, const PassContext& context, const FloatFormQuery& query,
                         std::string_view pass, pipeline::PassReport& report) {
    const FloatFormCounts counts = restoreFloatForm(model, context, query, pass);
    report.notes.push_back(
        fmt::format("decoded before they are quantized anew: {} weights and {} tables, {} quantizers of activations gone",
                    counts.weights, counts.tables, counts.quantizers));
}

}  // namespace tcompress::passes
