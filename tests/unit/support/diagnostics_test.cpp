#include "lib/support/diagnostics.h"

#include <catch2/catch.hpp>

#include "lib/support/error.h"
#include "lib/support/progress.h"

using namespace tcompress;

TEST_CASE("diagnostics are thrown together, one a line") {
    Diagnostics diagnostics;
    CHECK_NOTHROW(diagnostics.throwIfAny());
    diagnostics.add("/passes/0/bits", "must be 4 or 8, not 7");
    diagnostics.add("", "no output given");
    REQUIRE(diagnostics.entries().size() == 2);
    CHECK_THROWS_AS(diagnostics.throwIfAny(), ConfigError);
    CHECK_THROWS_WITH(diagnostics.throwIfAny(), "/passes/0/bits: must be 4 or 8, not 7\nno output given");
}

TEST_CASE("the nearest word is offered when it is near enough") {
    std::vector<std::string> passes{"prune",       "quantize",     "low-rank",
                                    "drop-layers", "remove-heads", "cleanup"};
    CHECK(nearest("quantise", passes) == "quantize");
    CHECK(nearest("prnue", passes) == "prune");
    CHECK(nearest("Prune", passes) == "prune");
    CHECK(nearest("low_rank", passes) == "low-rank");
    CHECK(nearest("quant", passes) == "quantize");
    CHECK(nearest("drop-layer", passes) == "drop-layers");
    CHECK(nearest("distill", passes).empty());
    CHECK(nearest("", passes).empty());
    CHECK(nearest("x", {}).empty());
    CHECK(didYouMean("quantise", passes) == ", did you mean 'quantize'?");
    CHECK(didYouMean("distill", passes).empty());
}

TEST_CASE("a word cut short is offered only when it means one") {
    CHECK(nearest("calib", {"calibration_samples", "calibration_data"}).empty());
    CHECK(nearest("calib", {"calibration", "scale"}) == "calibration");
}

namespace {
class Counter : public Progress {
  public:
    std::int64_t seen = 0;

  protected:
    void advance(std::int64_t done) override { seen += done; }
};
}  // namespace

TEST_CASE("progress counts steps") {
    Counter counter;
    counter.begin("work", 3);
    counter.step();
    counter.step(2);
    counter.end();
    CHECK(counter.seen == 3);
    CHECK_NOTHROW(silentProgress().step());
}
