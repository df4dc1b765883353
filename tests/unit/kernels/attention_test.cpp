#include "kernels/attention.h"

#include <catch2/catch.hpp>
#include <memory>

#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

struct Problem {
    std::int64_t batch = 2, heads = 4, kvHeads = 2, queries = 9, keys = 9, size = 8, valueSize = 8;
    Attention params;
    std::vector<float> q, k, v, mask;
    std::unique_ptr<bool[]> allowed;

    /// Heads interleaved: [batch, length, heads, size], as a linear layer leaves them.
    void fill() {
        q = randomFloats(batch * queries * heads * size, "q", 2.0);
        k = randomFloats(batch * keys * kvHeads * size, "k");
        v = randomFloats(batch * keys * kvHeads * valueSize, "v");
        params.batch = batch;
        params.queryHeads = heads;
        params.keyValueHeads = kvHeads;
        params.queryLength = queries;
        params.keyLength = keys;
        params.headSize = size;
        params.valueHeadSize = valueSize;
        params.q = q.data();
        params.k = k.data();
        params.v = v.data();
        params.qStrides = {queries * heads * size, size, heads * size};
        params.kStrides = {keys * kvHeads * size, size, kvHeads * size};
        params.vStrides = {keys * kvHeads * valueSize, valueSize, kvHeads * valueSize};
        params.outStrides = {queries * heads * valueSize, valueSize, heads * valueSize};
        params.scale = 1.0F / std::sqrt(static_cast<float>(size));
    }

    std::vector<float> run(KernelChoice choice) {
        setKernelChoice(choice);
        std::vector<float> out(static_cast<std::size_t>(batch * queries * heads * valueSize),
                               std::numeric_limits<float>::quiet_NaN());
        params.out = out.data();
        attention(params);
        return out;
    }

    /// Outputs are averages of standard normals, scores of size up to about ten: an error of eps · 10 in a
    /// score is one of eps · 10 in a weight.
    void check() {
        const std::vector<float> fast = run(KernelChoice::fastest);
        REQUIRE(maxDifference(fast, run(KernelChoice::reference)) < 4e-6);
        for (const int threads : {2, 3}) {
            setThreadCount(threads);
            REQUIRE(sameBits(fast, run(KernelChoice::fastest)));
        }
        setThreadCount(0);
    }
};

}  // namespace

TEST_CASE("attention equals its definition at awkward sizes") {
    Restore restore;
    for (const std::int64_t queries : {1, 2, 3, 4, 13, 97, 130})
        for (const std::int64_t keys : {1, 5, 33, 64})
            for (const std::int64_t size : {1, 7, 16, 32, 40, 64}) {
                Problem problem;
                problem.queries = queries;
                problem.keys = keys;
                problem.size = size;
                problem.valueSize = size == 7 ? 11 : size;
                problem.fill();
                INFO("queries " << queries << " keys " << keys << " size " << size);
                problem.check();
            }
}

TEST_CASE("attention over several blocks of keys") {
    Restore restore;
    for (const Causality causality : {Causality::full, Causality::causal}) {
        Problem problem;
        problem.batch = 1;
        problem.queries = 100;
        problem.keys = 1300;
        problem.fill();
        problem.params.causality = causality;
        problem.params.pastLength = 1200;
        problem.check();
    }
}

TEST_CASE("attention masks: causal, additive, boolean, lengths, softcap") {
    Restore restore;
    for (const std::int64_t queries : {2, 30}) {
        Problem problem;
        problem.queries = queries;
        problem.keys = 37;
        problem.fill();
        SECTION("causal" + std::to_string(queries)) {
            problem.params.causality = Causality::causal;
            problem.params.pastLength = 37 - queries;
            problem.check();
        }
        SECTION("causal without a past: later keys are never seen" + std::to_string(queries)) {
            problem.params.causality = Causality::causal;
            problem.check();
        }
        SECTION("additive, one row a batch element" + std::to_string(queries)) {
            problem.mask = randomFloats(2 * 37, "mask");
            for (std::size_t i = 0; i < problem.mask.size(); i += 3) problem.mask[i] = -10000.0F;
            problem.params.mask = problem.mask.data();
            problem.params.maskStrides = {37, 0, 0};
            problem.check();
        }
        SECTION("additive, full, with columns apart" + std::to_string(queries)) {
            problem.mask = randomFloats(2 * 4 * queries * 37 * 2, "mask");
            problem.params.mask = problem.mask.data();
            problem.params.maskStrides = {4 * queries * 37 * 2, queries * 37 * 2, 37 * 2};
            problem.params.maskColumnStride = 2;
            problem.check();
        }
        SECTION("boolean" + std::to_string(queries)) {
            problem.allowed = std::make_unique<bool[]>(static_cast<std::size_t>(queries * 37));
            for (std::int64_t i = 0; i < queries * 37; ++i)
                problem.allowed[static_cast<std::size_t>(i)] = i % 3 != 1;
            problem.params.allowed = problem.allowed.get();
            problem.params.maskStrides = {0, 0, 37};
            problem.check();
        }
        SECTION("softcap" + std::to_string(queries)) {
            problem.params.softcap = 2.0F;
            problem.check();
        }
    }
}

TEST_CASE("keys beyond the length are not read, and a query without keys gives zeros") {
    Restore restore;
    Problem problem;
    problem.queries = 14;
    problem.keys = 20;
    problem.fill();
    const std::int64_t lengths[] = {13, 0};
    problem.params.keyLengths = lengths;
    for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t key = lengths[b]; key < 20; ++key)
            for (std::int64_t i = 0; i < 16; ++i) {
                problem.k[static_cast<std::size_t>((b * 20 + key) * 16 + i)] = std::nanf("");
                problem.v[static_cast<std::size_t>((b * 20 + key) * 16 + i)] = std::nanf("");
            }
    problem.check();
    const std::vector<float> out = problem.run(KernelChoice::fastest);
    for (std::size_t i = out.size() / 2; i < out.size(); ++i) REQUIRE(out[i] == 0.0F);
}
