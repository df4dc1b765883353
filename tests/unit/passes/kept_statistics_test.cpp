// Passes that take their statistics from the cache: the same bytes without one, with an empty one, a full one and one
// that lacks entries and has damaged ones; and with a full one no model runs for statistics.

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/data/calibration_data.h"
#include "lib/ir/save.h"
#include "lib/pipeline/pass.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

namespace {

using namespace tcompress;
namespace fs = std::filesystem;

/// How often models ran over calibration samples.
struct Counter : Progress {
    void begin(std::string_view what, std::int64_t) override { runs += what == "calibration" ? 1 : 0; }
    int runs = 0;
};

struct Recipe {
    const char *type, *method, *options;
};

std::string bytesOf(const Recipe& recipe, const fs::path& folder, Counter& counter) {
    ir::Model model = test::dataModel("vit_digits");
    const data::CalibrationData data(test::samplesOf("digits_calibration", 0, 12));
    const pipeline::PassContext context(&data, 42, "0", counter, std::make_shared<pipeline::ViewCache>(),
                                        {.cacheFolder = folder});
    test::makePass(recipe.type, recipe.method, recipe.options)->run(model, context);
    return ir::modelToProto(model, ir::WeightData::embed).SerializeAsString();
}

std::vector<fs::path> entries(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

TEST_CASE("passes take statistics from the cache, those behind their own edits too") {
    const Recipe recipe =
        GENERATE(Recipe{"quantize", "gptq", R"({"refine": 0})"}, Recipe{"quantize", "static", "{}"},
                 Recipe{"prune", "neuron", R"({"ratio": 0.5, "scope": "layer"})"},
                 Recipe{"prune", "hidden", R"({"ratio": 0.25})"}, Recipe{"drop-layers", "", R"({"count": 1})"});
    INFO(recipe.type << '/' << recipe.method);
    const test::ScratchFolder folder;
    Counter without, cold, warm, partly;
    const std::string expected = bytesOf(recipe, {}, without);
    REQUIRE(without.runs > 0);
    CHECK((bytesOf(recipe, folder.path(), cold) == expected));
    CHECK((bytesOf(recipe, folder.path(), warm) == expected));
    CHECK(warm.runs == 0);
    const std::vector<fs::path> files = entries(folder.path());
    for (std::size_t i = 0; i < files.size(); ++i)
        if (i % 3 == 0)
            fs::remove(files[i]);
        else if (i % 3 == 1)
            test::writeFile(files[i], test::readFile(files[i]) + "?");
    CHECK((bytesOf(recipe, folder.path(), partly) == expected));
    CHECK(partly.runs > 0);
    CHECK((entries(folder.path()) == files));
}
