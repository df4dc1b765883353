// Patterns that cannot be sliced safely: structural passes leave them alone, say why, and change no byte.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;

namespace {

/// One pre-norm layer of 4 heads × 4 and 24 neurons. `extra` may use the stream x, the normalized n, queries q, the context c
/// and neurons h; `shape` is what the context is reshaped to; `outputs` are listed behind y.
ir::Model layer(const std::string& extra, const std::string& shape = "join", const std::string& outputs = "") {
    return test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (float[b,s,16] x) => (float[b,s,16] y)" +
                               outputs + R"()
<float[16,16] wq, float[16,16] wk, float[16,16] wv, float[16,16] wo, float[16,24] up, float[24,16] down, float[16] g, float[16] b,
 int64[4] split = {0, 0, 4, 4}, int64[3] join = {0, 0, 16},
 int64[1] last = {2}>
{
  n = LayerNormalization <axis = -1> (x, g, b)
  q = MatMul(n, wq)  qr = Reshape(q, split)  qh = Transpose <perm = [0, 2, 1, 3]> (qr)
  k = MatMul(n, wk)  kr = Reshape(k, split)  kh = Transpose <perm = [0, 2, 3, 1]> (kr)
  v = MatMul(n, wv)  vr = Reshape(v, split)  vh = Transpose <perm = [0, 2, 1, 3]> (vr)
  s = MatMul(qh, kh)
  p = Softmax <axis = -1> (s)
  ch = MatMul(p, vh)  cr = Transpose <perm = [0, 2, 1, 3]> (ch)
  )" + extra + R"(
  c = Reshape(cr, )" + shape + R"()
  o = MatMul(c, wo)
  r = Add(x, o)
  m = LayerNormalization <axis = -1> (r, g, b)
  u = MatMul(m, up)
  h = Relu(u)
  d = MatMul(h, down)
  y = Add(r, d)
}
)");
}

std::string bytesOf(const ir::Model& model) {
    return ir::modelToProto(model, ir::WeightData::embed).SerializeAsString();
}

/// The reason why no head goes; the model runs, and must be as it was.
std::string refusalOfHeads(const ir::Model& model) {
    std::string reason;
    CHECK_NOTHROW(test::outputsOf(model, test::feedsFor(model)));
    try {
        const auto [same, report] = test::runPass(model, "remove-heads", "", R"({"ratio": 0.5})");
        CHECK(report.changed.empty());
        CHECK((bytesOf(same) == bytesOf(model)));
        for (const auto& skipped : report.skipped) reason += skipped.reason;
    } catch (const PassError& refused) {
        reason = refused.what();
    }
    return reason;
}

}  // namespace

TEST_CASE("the layer without a catch loses its heads") {
    const auto [cut, report] = test::runPass(layer(""), "remove-heads", "", R"({"ratio": 0.5})");
    CHECK(report.changed.size() == 1);
    CHECK(analysis::recognise(cut).attention.at(0).heads == 2);
}

TEST_CASE("weights that are a head axis here and something else there stay") {
    // The query matrix is also a layer whose result the model shows, one that is added to the stream, and a sum over heads.
    CHECK_THAT(refusalOfHeads(layer("other = MatMul(x, wq)", "join", ", float[b,s,16] other")),
               Catch::Contains("visible in the graph output 'other'"));
    CHECK_THAT(refusalOfHeads(layer("other = MatMul(x, wq)\n  shown = Add(other, x)", "join", ", float[b,s,16] shown")),
               Catch::Contains("visible in the graph output 'shown'"));
    CHECK_THAT(refusalOfHeads(layer("other = MatMul(x, wq)\n  shown = ReduceSum <keepdims = 0> (other, last)", "join",
                                    ", float[b,s] shown")),
               Catch::Contains("reduced over it (ReduceSum 'shown')"));
}

TEST_CASE("heads behind a reshape whose shape the input decides stay") {
    const ir::Model model = layer(R"(largest = ReduceMax <keepdims = 0> (x)
  bounded = Clip(largest, largest, largest)
  size = Cast <to = 7> (bounded)
  none = Sub(size, size)
  wide = Add(join, none))",
                                  "wide");
    CHECK_THAT(refusalOfHeads(model), Catch::Contains("no attention was recognised in this model"));
    const auto view = analysis::recognise(model);
    CHECK(std::any_of(view.notRecognised.begin(), view.notRecognised.end(), [](const auto& part) {
        return part.reason == "softmax is no attention: no linear layer takes its context";
    }));
}
