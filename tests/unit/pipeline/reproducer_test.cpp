// What a failing pass leaves behind: a folder that replays the failure when the program is to blame, nothing
// when the request is.

#include "lib/pipeline/reproducer.h"

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <new>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/pipeline/pipeline.h"
#include "lib/support/error.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::pipeline;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

enum class Failure { nothing, bug, brokenModel, refusal, unsupported, data, memory };

struct Options {
    Failure failure = Failure::nothing;
    double weight = 0;
};

/// Sets the weight `w`, then fails as it is told.
class FailingPass : public Pass {
  public:
    explicit FailingPass(Options options) : options_(options) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const float before = model.graph().find("w")->constant()->data<float>()[0];
        ir::Edit edit(model, "failing");
        Tensor weight(DType::float32, {2});
        for (float& value : weight.mutableData<float>()) value = static_cast<float>(options_.weight);
        edit.setConstant(model.graph().find("w"), weight);
        edit.commit();
        const std::string text = fmt::format(
            "w was {}, {} samples", before,
            context.hasCalibration() ? context.calibration("failing", "it counts them").sampleCount() : 0);
        switch (options_.failure) {
            case Failure::nothing:
                break;
            case Failure::bug:
                throw std::out_of_range(text);
            case Failure::brokenModel:
                throw ModelError(text);
            case Failure::refusal:
                throw PassError(text);
            case Failure::unsupported:
                throw KernelError(text);
            case Failure::data:
                throw DataError(text);
            case Failure::memory:
                throw std::bad_alloc();
        }
        PassReport report;
        report.changed.push_back({"w", "set", -1});
        return report;
    }

  private:
    Options options_;
};

const std::vector<PassInfo>& registry() {
    static const std::vector<PassInfo> list = [] {
        PassInfo info;
        info.type = "failing";
        info.defaultMethod = true;
        OptionTable<Options> table;
        table
            .choice("failure", &Options::failure,
                    {{"nothing", Failure::nothing},
                     {"bug", Failure::bug},
                     {"broken-model", Failure::brokenModel},
                     {"refusal", Failure::refusal},
                     {"unsupported", Failure::unsupported},
                     {"data", Failure::data},
                     {"memory", Failure::memory}},
                    "how it fails")
            .option("weight", &Options::weight, "what w becomes");
        bindOptions<FailingPass>(info, table);
        return std::vector<PassInfo>{info};
    }();
    return list;
}

/// A folder with a model y = x + w, w = 1, and three samples of x.
struct Place {
    test::ScratchFolder scratch;
    fs::path folder = scratch.path();
    fs::path reproducer = folder / "out.onnx.reproducer";

    Place() {
        ir::save(ir::fromText(R"(<ir_version: 10, opset_import: ["" : 17]>
            g (float[n,2] x) => (float[n,2] y) <float[2] w = {1, 1}> { y = Add(x, w) })"),
                 folder / "model.onnx");
        std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
        header.resize(117, ' ');
        test::writeFile(folder / "x.npy",
                        std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + '\n' + std::string(24, '\0'));
    }

    /// Runs two passes, the second of which fails in this way, and returns the message.
    std::string messageOf(const std::string& failure) const {
        ConfigSources sources;
        sources.text = R"({"version": 1, "model": "model.onnx", "output": "out.onnx", "passes": [
            {"type": "failing", "weight": 2}, {"type": "failing", "weight": 3, "failure": ")" +
                       failure + R"("}], "constraints": {"max_size_ratio": 0.5}})";
        sources.folder = folder;
        return messageOf(resolveConfig(sources, registry()));
    }

    static std::string messageOf(Config config) {
        RunOptions options;
        options.commandLine = "tcompress run -c recipe.json";
        try {
            run(config, options);
        } catch (const Error& error) {
            return error.what();
        }
        FAIL("the run did not fail");
        return {};
    }

    Config replay() const {
        ConfigSources sources;
        sources.text = test::readFile(reproducer / "pipeline.json");
        sources.folder = reproducer;
        return resolveConfig(sources, registry());
    }

    std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
        std::sort(names.begin(), names.end());
        return names;
    }
};

}  // namespace

TEST_CASE("a pass that fails by itself leaves a reproducer that replays the failure") {
    const Place place;
    const std::string failure = GENERATE("bug", "broken-model");
    CHECK(place.messageOf(failure) == "pass 2 of 2 (failing): w was 2, 0 samples");
    CHECK(place.files() == std::vector<std::string>{"model.onnx", "out.onnx.reproducer", "x.npy"});
    CHECK(test::entryCount(place.reproducer) == 3);

    // The model as the failing pass found it, and that pass alone.
    CHECK(ir::load(place.reproducer / "model.onnx").graph().find("w")->constant()->data<float>()[0] == 2.0F);
    CHECK_THAT(test::readFile(place.reproducer / "README.txt"),
               Contains("pass 2 of 2: failing") && Contains("failure: pass 2 of 2 (failing): w was 2") &&
                   Contains("command: tcompress run -c recipe.json") &&
                   Contains("replay: tcompress run -c " + (place.reproducer / "pipeline.json").string()));
    const Config config = place.replay();
    REQUIRE(config.passes.size() == 1);
    CHECK_FALSE(config.constraints.any());
    CHECK(Place::messageOf(config) == "pass 1 of 1 (failing): w was 2, 0 samples");

    // A second failure takes the place of the first.
    CHECK(place.messageOf(failure) == "pass 2 of 2 (failing): w was 2, 0 samples");
}

TEST_CASE("a reproducer finds the calibration data of the run") {
    const Place place;
    Config config = [&] {
        ConfigSources sources;
        sources.text = R"({"version": 1, "model": "model.onnx", "output": "out.onnx",
            "passes": [{"type": "failing", "failure": "bug"}]})";
        sources.folder = place.folder;
        return resolveConfig(sources, registry());
    }();
    config.calibration.file = fs::relative(place.folder / "x.npy");
    CHECK(Place::messageOf(config) == "pass 1 of 1 (failing): w was 1, 3 samples");
    CHECK(fs::path(place.replay().calibration.file).is_absolute());
    CHECK(Place::messageOf(place.replay()) == "pass 1 of 1 (failing): w was 1, 3 samples");
}

TEST_CASE("a request that cannot be met leaves one message and no folder") {
    const Place place;
    const std::string failure = GENERATE("refusal", "unsupported", "data");
    CHECK(place.messageOf(failure) == "pass 2 of 2 (failing): w was 2, 0 samples");
    CHECK(place.files() == std::vector<std::string>{"model.onnx", "x.npy"});
}

TEST_CASE("memory that runs out is no bug") {
    const Place place;
    CHECK_THROWS_AS(place.messageOf("memory"), std::bad_alloc);
    CHECK(place.files() == std::vector<std::string>{"model.onnx", "x.npy"});
}

TEST_CASE("a reproducer that cannot be written does not hide the failure") {
    const Place place;
    test::writeFile(place.reproducer, "a file where the folder would be");
    CHECK(place.messageOf("bug") == "pass 2 of 2 (failing): w was 2, 0 samples");
    CHECK(test::readFile(place.reproducer) == "a file where the folder would be");
}
