// Removal with compensation leaves a model whose removed units are read by zeros. Cutting them out must then change
// nothing, on every architecture: fused QKV, grouped queries, com.microsoft's fused attention, key-value caches,
// cross-attention, bodies of If and Loop, shared weights.

#include <fmt/core.h>

#include <catch2/catch.hpp>
#include <map>

#include "lib/analysis/shrink.h"
#include "lib/data/split.h"
#include "passes/support/compensation.h"
#include "passes/support/structure.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

const std::map<std::string, std::int64_t> kSizes = {
    {"sequence", 9}, {"seq", 9}, {"total", 9}, {"total_sequence", 9}};

/// Outputs at inputs that both models take: random, caches empty.
std::vector<Tensor> outputsOf(const ir::Model& model) {
    const data::Dataset inputs = data::syntheticDataset(model, 3, /*seed=*/11, kSizes);
    const auto rows = data::fitToModel(inputs, model).rows(0, 3);
    return test::outputsOf(model, {rows.begin(), rows.end()});
}

/// Half of the heads and neurons go, with compensation; the model whose units are masked, and the one without them, must
/// be the same. Returns the tasks, for what else is to be seen of them.
std::vector<UnitTask> checkMaskedIsCut(ir::Model& model, Refit refit) {
    const analysis::TransformerView view = analysis::recognise(model);
    pipeline::PassReport report;
    std::vector<UnitLayer> layers = attentionUnits(view);
    for (UnitLayer& layer : feedForwardUnits(view)) layers.push_back(std::move(layer));
    const std::vector<UnitLayers> groups = targetLayers(view, layers, {}, {}, report);
    REQUIRE(groups.size() >= 2);
    const data::Split samples = data::split(
        data::syntheticDataset(model, 12, /*seed=*/5, kSizes), kHeldBackShare);
    std::vector<UnitTask> tasks;
    for (const UnitLayers& group : groups) {
        const std::int64_t units = view.axes->store->leafSize(group.leaf);
        tasks.push_back({group, keptUnits(units, {-1, 0.5, Scope::layer, 1}), {}, {}});
    }
    const ir::Model reference = model.clone();
    removeCompensated(model, reference, view, tasks, {calibration::MomentOrder::first, activationTimesWeight}, samples,
                      silentProgress(), report, refit);
    const analysis::KeepMasks masks = keepMasks(tasks, "nothing goes", report);
    REQUIRE(masks.size() == tasks.size());
    ir::Model cut = model.clone();
    analysis::shrink(cut, *analysis::recognise(cut).axes, masks, "test");
    CHECK(cut.constantBytes() < model.constantBytes());
    const std::vector<Tensor> masked = outputsOf(model), removed = outputsOf(cut);
    REQUIRE(masked.size() == removed.size());
    std::vector<Tensor> a, b;
    for (std::size_t i = 0; i < masked.size(); ++i)
        // Caches became smaller; what they hold shows in the other outputs.
        if (masked[i].shape() == removed[i].shape()) {
            a.push_back(removed[i]);
            b.push_back(masked[i]);
        }
    REQUIRE_FALSE(a.empty());
    CHECK(test::largestDifference(a, b) < 2e-5);
    return tasks;
}

const std::string kOpen = "  %c = Identity(%h)\n";

/// Layers of 4 heads × 4 and 24 neurons on a stream of 16. `around` is written behind each block: its %s is what the
/// block gives, and it makes %z of it; `inside` makes %c of the first layer's neurons %h.
std::string blocks(const std::string& around, const std::string& inside, const std::vector<std::string>& weightsOfLayer) {
    const auto with = [](std::string text, const std::string& what, const std::string& value) {
        for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + value.size()))
            text.replace(at, what.size(), value);
        return text;
    };
    std::string constants = "int64[4] split = {0, 0, 4, 4}, int64[3] join = {0, 0, 16}, float zero = {0}, float half = {0.5}, int64 twice = {2}, "
                            "float[16] g, float[16] b";
    std::string body, stream = "x";
    for (std::size_t l = 0; l < weightsOfLayer.size(); ++l) {
        const std::string& w = weightsOfLayer[l];
        if (constants.find(" wq" + w) == std::string::npos)
            constants += with(", float[16,16] wq%, float[16,16] wk%, float[16,16] wv%, float[16,16] wo%, float[16,24] up%, float[24,16] down%", "%", w);
        std::string text = R"(
  n# = LayerNormalization <axis = -1> (<, g, b)
  q# = MatMul(n#, wq@)  qr# = Reshape(q#, split)  qh# = Transpose <perm = [0, 2, 1, 3]> (qr#)
  k# = MatMul(n#, wk@)  kr# = Reshape(k#, split)  kh# = Transpose <perm = [0, 2, 3, 1]> (kr#)
  v# = MatMul(n#, wv@)  vr# = Reshape(v#, split)  vh# = Transpose <perm = [0, 2, 1, 3]> (vr#)
  s# = MatMul(qh#, kh#)
  p# = Softmax <axis = -1> (s#)
  ch# = MatMul(p#, vh#)  cr# = Transpose <perm = [0, 2, 1, 3]> (ch#)  c# = Reshape(cr#, join)
  o# = MatMul(c#, wo@)
  r# = Add(<, o#)
  m# = LayerNormalization <axis = -1> (r#, g, b)
  u# = MatMul(m#, up@)
  h# = Relu(u#)
)" + with(with(l == 0 ? inside : kOpen, "%h", "h#"), "%c", "a#") + R"(
  d# = MatMul(a#, down@)
  e# = Add(r#, d#)
)" + with(with(around, "%s", "e#"), "%z", "z#");
        text = with(with(with(text, "@", w), "#", std::to_string(l)), "<,", stream + ",");
        body += text;
        stream = fmt::format("z{}", l);
    }
    return "<ir_version: 10, opset_import: [\"\" : 17]>\ng (float[b,s,16] x) => (float[b,s,16] y)\n<" + constants + ">\n{\n  largest = ReduceMax <keepdims = 0> (x)\n"
           "  flag = Greater(largest, zero)\n" + body + "  y = LayerNormalization <axis = -1> (" + stream + ", g, b)\n}\n";
}

const std::string kPlain = "  %z = Identity(%s)\n";
const std::string kIf = R"(
  %z = If <then_branch = yes# () => (float[b,s,16] t#) { t# = Mul(%s, half) }, else_branch = no# () => (float[b,s,16] f#) { f# = Add(%s, x) }> (flag)
)";
const std::string kLoop = R"(
  %z = Loop <body = again# (int64 i#, bool more#, float[b,s,16] in#) => (bool go#, float[b,s,16] out#) { go# = Identity(more#)  hs# = Mul(in#, half)  out# = Add(hs#, x) }> (twice, , %s)
)";
/// A body that sees the neurons themselves.
const std::string kIfOnNeurons = R"(
  %c = If <then_branch = yes# () => (float[b,s,24] t#) { t# = Mul(%h, half) }, else_branch = no# () => (float[b,s,24] f#) { f# = Identity(%h) }> (flag)
)";

std::vector<std::string> bodiesOf(const ir::Model& model) {
    std::vector<std::string> bodies;
    for (const auto& node : model.graph().nodes())
        for (const char* name : {"then_branch", "else_branch", "body"})
            if (const onnx::AttributeProto* body = node->attribute(name)) bodies.push_back(body->g().SerializeAsString());
    return bodies;
}

}  // namespace

TEST_CASE("what compensation left is the same masked and cut") {
    const char* const name = GENERATE("bert_tiny", "bert_tiny_fused", "vit_digits", "gpt2_char", "gpt2_char_kv",
                                      "llama_char", "llama_char_kv", "t5_char_encoder", "t5_char_decoder");
    const Refit refit = GENERATE(Refit::readers, Refit::all);
    CAPTURE(name);
    ir::Model model = test::dataModel(name);
    for (const UnitTask& task : checkMaskedIsCut(model, refit)) CHECK(task.refusal.empty());
}

TEST_CASE("bodies of If and Loop around what is cut stay as they are") {
    const std::string around = GENERATE(kIf, kLoop);
    const Refit refit = GENERATE(Refit::readers, Refit::all);
    ir::Model model = test::modelFromText(blocks(around, kOpen, {"0", "1"}));
    const std::vector<std::string> bodies = bodiesOf(model);
    REQUIRE(bodies.size() >= 2);
    const std::vector<UnitTask> tasks = checkMaskedIsCut(model, refit);
    // A loop may change a shape: what lies behind one is not recognised.
    CHECK(tasks.size() == (around == kIf ? 4 : 2));
    for (const UnitTask& task : tasks) CHECK(task.refusal.empty());
    CHECK(bodiesOf(model) == bodies);
}

TEST_CASE("neurons that a body sees stay, and all else goes") {
    const ir::Model model = test::modelFromText(blocks(kIf, kIfOnNeurons, {"0", "1"}));
    const data::Dataset samples = data::syntheticDataset(model, 12, /*seed=*/5, kSizes);
    const auto heads = test::runPass(model, "remove-heads", "", R"({"ratio": 0.5})", &samples);
    CHECK(bodiesOf(heads.model) == bodiesOf(model));
    for (const auto& layer : analysis::recognise(heads.model).attention) CHECK(layer.heads == 2);
    const auto neurons = test::runPass(model, "prune", "neuron", R"({"sparsity": 0.5})", &samples);
    CHECK(bodiesOf(neurons.model) == bodiesOf(model));
    CHECK(neurons.report.changed.size() == 1);
    CHECK(neurons.model.graph().find("up0")->constant()->shape() == Shape{16, 24});
    CHECK(neurons.model.graph().find("up1")->constant()->shape() == Shape{16, 16});
}

TEST_CASE("layers that share their weights lose the same units") {
    const Refit refit = GENERATE(Refit::readers, Refit::all);
    const std::string around = GENERATE(kPlain, kIf);
    ir::Model model = test::modelFromText(blocks(around, kOpen, {"0", "1", "0"}));
    const std::vector<UnitTask> tasks = checkMaskedIsCut(model, refit);
    CHECK(tasks.size() == 4);
}
