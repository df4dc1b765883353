// What looks at a model's weights leaves no page of the mapped file in the process' memory.

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <numeric>

#include "lib/analysis/cost.h"
#include "lib/analysis/transformer_view.h"
#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "tests/support/judge.h"
#include "tests/support/text_model.h"

using namespace tcompress;

namespace {

constexpr std::int64_t kRows = 16'384, kColumns = 256;
constexpr std::int64_t kTableBytes = kRows * kColumns * std::int64_t{sizeof(float)}, kMargin = kTableBytes / 4;

/// Of files, this program's own among them.
std::int64_t residentBytes() {
    std::ifstream statm("/proc/self/statm");
    std::int64_t size = 0, resident = 0, shared = 0;
    statm >> size >> resident >> shared;
    REQUIRE(statm);
    return shared * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

TEST_CASE("counting zeros, and running a model, leave no weights of the mapped file in memory") {
    const test::ScratchFolder folder;
    {
        ir::Model made = test::modelFromText(R"(
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[n] ids) => (float[n,256] y) <float[16384,256] table> { y = Gather (table, ids) })");
        ir::save(made, folder.path() / "model.onnx");
    }
    const ir::Model model = ir::load(folder.path() / "model.onnx");
    const analysis::TransformerView view = analysis::recognise(model);
    const std::int64_t before = residentBytes();

    CHECK(analysis::cost(model, view).parameters == kRows * kColumns);
    CHECK(residentBytes() < before + kMargin);
    {
        exec::Executor executor(model);
        Tensor ids(DType::int64, {kRows});
        std::iota(ids.mutableData<std::int64_t>().begin(), ids.mutableData<std::int64_t>().end(), std::int64_t{0});
        executor.run({{"ids", ids}});
        CHECK(residentBytes() > before + kTableBytes - kMargin);
    }
    CHECK(residentBytes() < before + kMargin);
}
