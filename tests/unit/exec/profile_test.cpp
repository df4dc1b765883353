// A profile accounts for the time of the runs and names the kernels that ran.

#include "lib/exec/profile.h"

#include <catch2/catch.hpp>

#include "kernels/table.h"
#include "lib/data/readers.h"
#include "lib/ir/load.h"

namespace {

using namespace tcompress;

exec::ModelProfile profileOf(const std::string& name, std::int64_t runs) {
    const std::string data(TCOMPRESS_TEST_DATA);
    const ir::Model model = ir::load(data + "/models/" + name + ".onnx");
    return exec::profileModel(model, data::readNpz(data + "/exec/" + name + ".feeds.npz"), runs);
}

const exec::OperatorTime* find(const exec::ModelProfile& profile, const std::string& opType) {
    for (const exec::OperatorTime& row : profile.operators) {
        if (row.opType == opType) return &row;
    }
    return nullptr;
}

TEST_CASE("A profile sums up to the time of the runs") {
    const exec::ModelProfile profile = profileOf("llama_char", 3);
    double seconds = 0;
    for (std::size_t i = 0; i < profile.operators.size(); ++i) {
        const exec::OperatorTime& row = profile.operators[i];
        CHECK(row.calls % 3 == 0);
        CHECK((i == 0 || row.seconds <= profile.operators[i - 1].seconds));
        seconds += row.seconds;
    }
    CHECK(profile.runs == 3);
    CHECK(seconds > 0);
    CHECK(seconds <= profile.seconds);
    const exec::OperatorTime* gather = find(profile, "Gather");
    REQUIRE(gather != nullptr);
    CHECK(gather->kernel.empty());
}

TEST_CASE("A profile names the kernels, and the reference ones when they are chosen") {
    const exec::ModelProfile fastest = profileOf("bert_tiny", 1);
    kernels::setKernelChoice(kernels::KernelChoice::reference);
    const exec::ModelProfile reference = profileOf("bert_tiny", 1);
    kernels::setKernelChoice(kernels::KernelChoice::fastest);
    REQUIRE(find(fastest, "Linear") != nullptr);
    CHECK(find(fastest, "Linear")->kernel != "reference");
    CHECK_FALSE(find(fastest, "Linear")->kernel.empty());
    REQUIRE(find(reference, "Linear") != nullptr);
    CHECK(find(reference, "Linear")->kernel == "reference");
    CHECK(reference.refusals.empty());  // where there is no choice, nothing refuses
}

}  // namespace
