// The recognised model is made once a revision, and never that of another model.

#include <catch2/catch.hpp>

#include <set>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/pipeline/pass.h"

using namespace tcompress;

namespace {

ir::Model chain() {
    return ir::fromText(R"(
<ir_version: 8, opset_import: ["" : 17]>
g (float[2,2] x) => (float[2,2] y)
<float[2,2] w = {1, 2, 3, 4}, float[2,2] v = {1, 0, 0, 1}>
{ h = MatMul(x, w)  y = MatMul(h, v) }
)");
}

void skipFirst(ir::Model& model) {
    ir::Edit edit(model, "test");
    edit.replaceAllUses(model.graph().find("h"), model.graph().find("x"));
    edit.commit();
}

}  // namespace

TEST_CASE("a view is that of the model that was asked about, however short its life") {
    pipeline::ViewCache views;
    const ir::Model model = chain();
    std::set<std::uint64_t> revisions = {model.revision()};
    for (int turn = 0; turn < 8; ++turn) {
        // A clone takes the memory that the one before has left.
        const auto trial = std::make_unique<ir::Model>(model.clone());
        if (turn % 2 == 1) skipFirst(*trial);
        const analysis::TransformerView& view = views.view(*trial);
        REQUIRE(view.sites.size() == (turn % 2 == 1 ? 1 : 2));
        for (const analysis::Site& site : view.sites)
            CHECK(trial->graph().nodes().at(site.node->position()).get() == site.node);
        CHECK(&views.view(*trial) == &view);
        CHECK(revisions.insert(trial->revision()).second);
    }
}
