#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>

#include "lib/analysis/transformer_view.h"
#include "lib/ir/load.h"
#include "tests/unit/analysis/cut_check.h"
#include "tests/unit/analysis/tiny_transformer.h"

namespace tcompress::analysis {
namespace {

std::filesystem::path dataModel(const std::string& name) {
    return std::filesystem::path(TCOMPRESS_TEST_DATA) / "models" / (name + ".onnx");
}

struct Figures {
    const char* model;
    std::size_t blocks, attention, feedForward;
    std::int64_t hidden, heads, kvHeads, headDim, width;
    bool gated;
    ActivationKind activation;
    NormPlacement norm;
    const char* normKind;
    int norms;
    const char* roles;  ///< how many sites of each role
};

const Figures kFigures[] = {
    {"bert_tiny", 2, 2, 2, 32, 4, 4, 8, 64, false, ActivationKind::geluErf, NormPlacement::post,
     "LayerNormalization", 5,
     "embedding 3, attention.q 2, attention.k 2, attention.v 2, attention.o 2, ffn.up 2, ffn.down 2, "
     "classifier 1"},
    {"bert_tiny_fused", 2, 2, 2, 32, 4, 4, 8, 64, false, ActivationKind::geluErf, NormPlacement::post,
     "SkipLayerNormalization", 4,
     "embedding 3, attention.qkv 2, attention.o 2, ffn.up 2, ffn.down 2, classifier 1"},
    {"gpt2_char", 4, 4, 4, 64, 4, 4, 16, 256, false, ActivationKind::geluTanh, NormPlacement::pre,
     "LayerNormalization (decomposed)", 9,
     "embedding 2, attention.qkv 4, attention.o 4, ffn.up 4, ffn.down 4, classifier 1"},
    {"gpt2_char_kv", 4, 4, 4, 64, 4, 4, 16, 256, false, ActivationKind::geluTanh, NormPlacement::pre,
     "LayerNormalization (decomposed)", 9,
     "embedding 2, attention.qkv 4, attention.o 4, ffn.up 4, ffn.down 4, classifier 1"},
    {"llama_char", 6, 6, 6, 128, 8, 2, 16, 344, true, ActivationKind::silu, NormPlacement::pre,
     "RMSNormalization (decomposed)", 13,
     "embedding 1, attention.q 6, attention.k 6, attention.v 6, attention.o 6, ffn.up 6, ffn.gate 6, "
     "ffn.down 6, classifier 1"},
    {"llama_char_kv", 6, 6, 6, 128, 8, 2, 16, 344, true, ActivationKind::silu, NormPlacement::pre,
     "RMSNormalization (decomposed)", 13,
     "embedding 1, attention.q 6, attention.k 6, attention.v 6, attention.o 6, ffn.up 6, ffn.gate 6, "
     "ffn.down 6, classifier 1"},
    {"t5_char_encoder", 2, 2, 2, 96, 4, 4, 24, 256, false, ActivationKind::relu, NormPlacement::pre,
     "RMSNormalization (decomposed)", 5,
     "other 1, embedding 2, attention.q 2, attention.k 2, attention.v 2, attention.o 2, ffn.up 2, ffn.down "
     "2"},
    {"t5_char_decoder", 2, 4, 2, 96, 4, 4, 24, 256, false, ActivationKind::relu, NormPlacement::pre,
     "RMSNormalization (decomposed)", 7,
     "other 1, embedding 2, attention.q 4, attention.k 4, attention.v 4, attention.o 4, ffn.up 2, ffn.down "
     "2, classifier 1"},
    {"vit_digits", 4, 4, 4, 48, 4, 4, 12, 192, false, ActivationKind::geluErf, NormPlacement::pre,
     "LayerNormalization (decomposed)", 9,
     "attention.q 4, attention.k 4, attention.v 4, attention.o 4, ffn.up 4, ffn.down 4, classifier 1, "
     "patch-embedding 1"},
    {"vit_mnist5k", 6, 6, 6, 64, 4, 4, 16, 256, false, ActivationKind::geluErf, NormPlacement::pre,
     "LayerNormalization", 13,
     "attention.q 6, attention.k 6, attention.v 6, attention.o 6, ffn.up 6, ffn.down 6, classifier 1, "
     "patch-embedding 1"},
};

std::string roleCounts(const TransformerView& view) {
    std::string text;
    for (const std::string& role : roleNames()) {
        const auto count = std::count_if(view.sites.begin(), view.sites.end(),
                                         [&](const Site& s) { return name(s.role) == role; });
        if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", role, count);
    }
    return text;
}

void checkSites(const TransformerView& view) {
    for (const Site& site : view.sites) {
        INFO(site.name);
        REQUIRE(site.weight->constant() != nullptr);
        const Shape& shape = site.weight->constant()->shape();
        if (site.node->opType() == "Conv") continue;
        CHECK(shape[site.inAxis] == site.inFeatures);
        CHECK(shape[site.outAxis] == site.outFeatures);
        CHECK((site.bias == nullptr || site.bias->constant()->size() == site.outFeatures));
        if (site.role != SiteRole::embedding && site.role != SiteRole::other) CHECK(site.macs > 0);
        const bool inside =
            name(site.role).rfind("attention", 0) == 0 || name(site.role).rfind("ffn", 0) == 0;
        CHECK((site.block >= 0) == inside);
    }
}

TEST_CASE("figures of the models") {
    for (const Figures& f : kFigures) {
        INFO(f.model);
        const ir::Model model = ir::load(dataModel(f.model));
        const TransformerView view = recognise(model);
        CHECK(view.isTransformer());
        CHECK(view.notRecognised.empty());
        CHECK(view.hiddenSize == f.hidden);
        CHECK(view.blocks.size() == f.blocks);
        REQUIRE(view.attention.size() == f.attention);
        REQUIRE(view.feedForward.size() == f.feedForward);
        for (const AttentionLayer& layer : view.attention) {
            CHECK(layer.heads == f.heads);
            CHECK(layer.kvHeads == f.kvHeads);
            CHECK(layer.headDim == f.headDim);
            CHECK(layer.valueDim == f.headDim);
            CHECK(layer.norm == f.norm);
            CHECK(layer.refusals.empty());
            CHECK(view.axes->store->leafSize(layer.groupLeaf) == f.kvHeads);
            CHECK((layer.repeatLeaf < 0 ? 1 : view.axes->store->leafSize(layer.repeatLeaf)) ==
                  f.heads / f.kvHeads);
        }
        for (const FeedForward& layer : view.feedForward) {
            CHECK(layer.width == f.width);
            CHECK(layer.gated == f.gated);
            CHECK(layer.gate.size() == (f.gated ? 1 : 0));
            CHECK(layer.activation == f.activation);
            CHECK(layer.norm == f.norm);
            CHECK(layer.refusals.empty());
        }
        for (std::size_t b = 0; b < view.blocks.size(); ++b) {
            const Block& block = view.blocks[b];
            CHECK(block.attention.size() == f.attention / f.blocks);
            CHECK(block.feedForward.size() == 1);
            REQUIRE(block.input != nullptr);
            REQUIRE(block.output != nullptr);
            if (b > 0) CHECK(block.input == view.blocks[b - 1].output);
            CHECK(view.axes->shapes.shape(*block.input) == view.axes->shapes.shape(*block.output));
        }
        CHECK(roleCounts(view) == f.roles);
        const auto norm = std::find_if(view.norms.begin(), view.norms.end(),
                                       [&](const NormCount& n) { return n.kind == f.normKind; });
        REQUIRE(norm != view.norms.end());
        CHECK(norm->count == f.norms);
        checkSites(view);
    }
}

TEST_CASE("cross-attention takes keys and values from elsewhere") {
    const ir::Model model = ir::load(dataModel("t5_char_decoder"));
    const TransformerView view = recognise(model);
    REQUIRE(view.attention.size() == 4);
    for (std::size_t i = 0; i < 4; ++i) CHECK(view.attention[i].cross == (i % 2 == 1));
    for (const Block& block : view.blocks) {
        CHECK_FALSE(view.attention[block.attention[0]].cross);
        CHECK(view.attention[block.attention[1]].cross);
    }
}

TEST_CASE("every shape of the models is known") {
    for (const Figures& f : kFigures) {
        const ir::Model model = ir::load(dataModel(f.model));
        for (const ProbeSizes& sizes : {ProbeSizes{}, alternativeSizes(model), referenceSizes(model, 32)}) {
            const ConcreteShapes shapes = concretise(model, sizes);
            for (const ir::Value* value : model.graph().values()) {
                INFO(f.model << ": " << value->name());
                REQUIRE(shapes.shape(*value).has_value());
            }
        }
    }
}

TEST_CASE("removed equals masked on the models, for random masks") {
    for (const Figures& f : kFigures) {
        const ir::Model model = ir::load(dataModel(f.model));
        const TransformerView view = recognise(model);
        for (std::uint64_t seed = 0; seed < 2; ++seed) {
            INFO(f.model << " seed " << seed);
            Random random(seed, f.model);
            const CutResult result = compareCut(model, view, randomHalf(view, random, true, true));
            CHECK(result.difference < 1e-5);
            CHECK(result.effect > 1e-3);
        }
    }
}

TEST_CASE("larger models, when they are there") {
    const char* folder = std::getenv("TCOMPRESS_ZOO");
    if (folder == nullptr) {
        WARN("TCOMPRESS_ZOO is not set: the larger models are not looked at");
        return;
    }
    struct Large {
        const char* file;
        std::size_t blocks;
        std::int64_t heads, headDim, width;
    };
    for (const Large& large :
         {Large{"minilm_l3.onnx", 3, 12, 32, 1536}, Large{"sentiment_minilm_l6.onnx", 6, 12, 32, 1536},
          Large{"minilm_l6_fused.onnx", 6, 12, 32, 1536}, Large{"ppocr_rec.onnx", 2, 8, 15, 240},
          Large{"magika.onnx", 0, 0, 0, 0}}) {
        const std::filesystem::path path = std::filesystem::path(folder) / large.file;
        if (!std::filesystem::exists(path)) {
            WARN(path << " is not there");
            continue;
        }
        INFO(large.file);
        const ir::Model model = ir::load(path);
        const TransformerView view = recognise(model);
        CHECK(view.blocks.size() == large.blocks);
        CHECK(view.isTransformer() == (large.blocks > 0));
        for (const AttentionLayer& layer : view.attention) {
            CHECK(layer.heads == large.heads);
            CHECK(layer.headDim == large.headDim);
        }
        for (const FeedForward& layer : view.feedForward) CHECK(layer.width == large.width);
        if (!view.isTransformer()) CHECK_FALSE(view.notRecognised.empty());
    }
}

TEST_CASE("a feed-forward layer alone behind a linear map of the stream is recognised, a head with a norm is not") {
    // As when the last attention of a post-norm model goes and a map takes its place: one norm is left of that stream.
    GraphText g;
    const TinyOptions o;
    std::string x = g.input("float[b, s, 16]", "x");
    for (int layer = 0; layer < 2; ++layer)
        x = g.layerNorm(g.node(fmt::format("Add({}, {})", x, plainAttention(g, x, o, layer))), 16);
    const std::string map = g.linear(x, "map", 16, 16);
    const bool isLayer = GENERATE(true, false);
    CAPTURE(isLayer);
    if (isLayer) {
        g.output("float[b, s, 16]", g.layerNorm(g.node(fmt::format("Add({}, {})", map, plainFeedForward(g, map, o, 2))), 16));
    } else {
        g.output("float[b, s, 40]", g.linear(g.layerNorm(map, 16), "vocabulary", 16, 40));
    }
    const ir::Model model = g.model();
    const TransformerView view = recognise(model);
    CHECK(view.attention.size() == 2);
    REQUIRE(view.feedForward.size() == (isLayer ? 1 : 0));
    CHECK(view.blocks.size() == (isLayer ? 3 : 2));
    if (isLayer) CHECK(view.feedForward[0].norm == NormPlacement::post);
}

TEST_CASE("near misses are not recognised") {
    SECTION("a classifier's hidden layer has no residual addition behind it") {
        GraphText g;
        const TinyOptions o;
        std::string x = g.input("float[b, s, 16]", "x");
        for (int layer = 0; layer < 2; ++layer) {
            x = g.node(fmt::format("Add({}, {})", x, plainAttention(g, g.layerNorm(x, 16), o, layer)));
        }
        const std::string logits = plainFeedForward(g, g.layerNorm(x, 16), o, 9);
        g.output("float[b, s, 16]", logits);
        const ir::Model model = g.model();
        const TransformerView view = recognise(model);
        CHECK(view.attention.size() == 2);
        CHECK(view.feedForward.empty());
    }
    SECTION("a softmax at the end is no attention") {
        GraphText g;
        std::string x = g.input("float[b, s, 16]", "x");
        x = g.softmax(g.linear(g.layerNorm(g.layerNorm(x, 16), 16), "head", 16, 5));
        g.output("float[b, s, 5]", x);
        const ir::Model model = g.model();
        const TransformerView view = recognise(model);
        CHECK_FALSE(view.isTransformer());
        CHECK(view.notRecognised.size() >= 1);
        REQUIRE(view.sites.size() == 1);
        CHECK(view.sites[0].bias != nullptr);
        CHECK(view.sites[0].role == SiteRole::other);
    }
    SECTION("an activation that is nearly GELU") {
        const auto nearly = [](GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
            const std::string up = g.linear(x, fmt::format("up{}", layer), o.hidden, o.width);
            // 0.5·u·(1 + erf(u / 1.5)): the constant should be √2.
            const std::string erf = g.node(fmt::format("Erf({})", g.scaled(up, 1 / 1.5F)));
            const std::string one =
                g.node(fmt::format("Add({}, {})", erf, g.floats(fmt::format("one{}", layer), {}, {1.0F})));
            return g.linear(g.scaled(g.node(fmt::format("Mul({}, {})", up, one)), 0.5F),
                            fmt::format("down{}", layer), o.width, o.hidden);
        };
        const ir::Model model = preNorm(plainAttention, nearly);
        const TransformerView view = recognise(model);
        REQUIRE(view.feedForward.size() == 2);
        CHECK(view.feedForward[0].activation == ActivationKind::unknown);
    }
}

}  // namespace
}  // namespace tcompress::analysis
