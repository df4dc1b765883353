#include "kernels/matmul.h"

#include <array>
#include <catch2/catch.hpp>
#include <set>

#include "kernels/native/gemm_kernel.h"
#include "kernels/packed_weights.h"
#include "kernels/tiles.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

/// Sums of k products of standard normals differ by about eps · k; the epilogue by a few units in the last
/// place.
double tolerance(std::int64_t k, const std::vector<float>& expected = {}) {
    double largest = 4;
    for (const float value : expected)
        if (std::abs(value) > largest) largest = std::abs(value);
    return 1.2e-7 * (static_cast<double>(k) + 8.0 * largest);
}

struct Problem {
    std::int64_t m, k, n;
    Epilogue epilogue;
    std::vector<float> a, b, bias, residual, c;
    PackedWeightsPtr weights;

    Problem(std::int64_t rowsOfC, std::int64_t inner, std::int64_t columnsOfC)
        : m(rowsOfC), k(inner), n(columnsOfC) {
        a = paddedMatrix(m, k, k + 5, "a");
        b = randomFloats(k * n, "b");
        bias = randomFloats(n, "bias");
        residual = paddedMatrix(m, n, n + 2, "residual");
        weights = packWeights(b.data(), k, n);
    }

    std::vector<float> run(KernelChoice choice) {
        setKernelChoice(choice);
        c.assign(static_cast<std::size_t>(m * (n + 3)), std::numeric_limits<float>::quiet_NaN());
        PackedMatmul params;
        params.a = a.data();
        params.aStride = k + 5;
        params.m = m;
        params.weights = weights.get();
        params.c = c.data();
        params.cStride = n + 3;
        params.epilogue = epilogue;
        matmul(params);
        return c;
    }
};

}  // namespace

TEST_CASE("packed product equals the definition at awkward sizes and leaves the padding alone") {
    Restore restore;
    for (const std::int64_t m : {1, 2, 3, 7, 11, 12, 13, 37, 65}) {
        for (const std::int64_t n : {1, 3, 15, 16, 17, 31, 32, 33, 65, 130}) {
            for (const std::int64_t k : {0, 1, 2, 7, 33, 64}) {
                Problem problem(m, k, n);
                INFO("m " << m << " n " << n << " k " << k);
                REQUIRE(maxDifference(problem.run(KernelChoice::fastest),
                                      problem.run(KernelChoice::reference)) <= tolerance(k));
            }
        }
    }
}

TEST_CASE("packed product with K in several parts") {
    Restore restore;
    for (const std::int64_t k : {767, 769, 1536, 3001}) {
        Problem problem(29, k, 70);
        problem.epilogue.bias = problem.bias.data();
        problem.epilogue.residual = problem.residual.data();
        problem.epilogue.residualStride = problem.n + 2;
        problem.epilogue.alpha = 0.25F;
        INFO("k " << k);
        REQUIRE(maxDifference(problem.run(KernelChoice::fastest), problem.run(KernelChoice::reference)) <=
                tolerance(k));
    }
}

TEST_CASE("every epilogue") {
    Restore restore;
    for (const Activation activation :
         {Activation::none, Activation::relu, Activation::geluErf, Activation::geluTanh, Activation::silu,
          Activation::quickGelu, Activation::tanh, Activation::sigmoid}) {
        for (int parts = 0; parts < 8; ++parts) {
            Problem problem(30, 40, 70);
            problem.epilogue.activation = activation;
            if (parts & 1) problem.epilogue.bias = problem.bias.data();
            if (parts & 2) {
                problem.epilogue.residual = problem.residual.data();
                problem.epilogue.residualStride = problem.n + 2;
            }
            if (parts & 4) problem.epilogue.alpha = -0.5F;
            INFO(name(activation) << " parts " << parts);
            REQUIRE(maxDifference(problem.run(KernelChoice::fastest), problem.run(KernelChoice::reference)) <=
                    tolerance(40));
        }
    }
}

TEST_CASE("the residual may be the result itself") {
    Restore restore;
    for (const std::int64_t k : {20, 769, 1536, 3001}) {  // one part of K and several
        INFO("k " << k);
        Problem problem(30, k, 40);
        const std::vector<float> b = randomFloats(k * 40, "b");
        std::vector<float> expected, expectedOfBatch;
        for (const KernelChoice choice : {KernelChoice::reference, KernelChoice::fastest}) {
            setKernelChoice(choice);
            std::vector<float> c = randomFloats(30 * 40, "c"), ofBatch = c;
            PackedMatmul params{problem.a.data(), k + 5, 30, problem.weights.get(), c.data(), 40, {}};
            params.epilogue = {-0.5F, problem.bias.data(), Activation::none, c.data(), 40};
            matmul(params);
            BatchedMatmul batched;
            batched.m = 30;
            batched.n = 40;
            batched.k = k;
            batched.a = problem.a.data();
            batched.aRowStride = k + 5;
            batched.b = b.data();
            batched.bRowStride = 40;
            batched.c = ofBatch.data();
            batched.cRowStride = 40;
            batched.epilogue = {-0.5F, problem.bias.data(), Activation::none, ofBatch.data(), 40};
            matmul(batched);
            if (choice == KernelChoice::reference) {
                expected = c;
                expectedOfBatch = ofBatch;
            }
            REQUIRE(maxDifference(c, expected) <= tolerance(k));
            REQUIRE(maxDifference(ofBatch, expectedOfBatch) <= tolerance(k));
        }
    }
}

TEST_CASE("packing takes B by strides") {
    Restore restore;
    const std::int64_t k = 37;
    const std::int64_t n = 45;
    const std::vector<float> transposed = randomFloats(k * n, "bt");  // [N, K]
    const PackedWeightsPtr packed = packWeights(transposed.data(), k, n, 1, k);
    CHECK(rows(*packed) == k);
    CHECK(columns(*packed) == n);
    for (std::int64_t i = 0; i < k; ++i)
        for (std::int64_t j = 0; j < n; ++j)
            REQUIRE(packed->element(i, j) == transposed[static_cast<std::size_t>(j * k + i)]);
}

namespace {

/// C = A · B for rows of A that lie as `aStride` and `aStep` say, in two parts of K, with bias and residual.
void checkPanel(PanelKernel kernel, std::int64_t rows, std::int64_t columns, std::int64_t aStride, std::int64_t aStep) {
    const std::int64_t k = 50, parts[] = {0, 20, k};
    const std::vector<float> a = randomFloats(rows * aStride + k * aStep, "a");
    const std::vector<float> b = randomFloats(k * columns, "b");
    const std::vector<float> bias = randomFloats(columns, "bias");
    const std::vector<float> residual = randomFloats(rows * columns, "residual");
    const PackedWeightsPtr packed = packWeights(b.data(), k, columns);
    const std::int64_t cStride = columns + 3;
    std::vector<float> c(static_cast<std::size_t>(rows * cStride), 7.0F);
    for (int part = 0; part < 2; ++part) {
        PanelTask task;
        task.a = a.data() + parts[part] * aStep;
        task.aStride = aStride;
        task.aStep = aStep;
        task.rows = rows;
        task.panel = packed->panel(0) + parts[part] * kPanelColumns;
        task.k = parts[part + 1] - parts[part];
        task.c = c.data();
        task.cStride = cStride;
        task.columns = columns;
        task.bias = bias.data();
        task.residual = residual.data();
        task.residualStride = columns;
        task.alpha = 0.5F;
        task.part = part == 0 ? PanelTask::Part::first : PanelTask::Part::last;
        kernel(task);
    }
    double worst = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < columns; ++j) {
            double sum = 0;
            for (std::int64_t l = 0; l < k; ++l) sum += static_cast<double>(a[i * aStride + l * aStep]) * b[l * columns + j];
            const double expected = 0.5 * sum + bias[j] + residual[i * columns + j];
            worst = std::max(worst, std::abs(expected - c[i * cStride + j]));
        }
        for (std::int64_t j = columns; j < cStride; ++j) REQUIRE(c[i * cStride + j] == 7.0F);
    }
    CHECK(worst <= tolerance(k));
}

}  // namespace

TEST_CASE("every instruction set gives the same product") {
    std::vector<PanelKernel> kernels = {multiplyPanelBaseline};
    if (__builtin_cpu_supports("x86-64-v3")) kernels.push_back(multiplyPanelAvx2);
    if (__builtin_cpu_supports("x86-64-v4")) kernels.push_back(multiplyPanelAvx512);
    for (std::size_t kernel = 0; kernel < kernels.size(); ++kernel)
        for (std::int64_t rows = 1; rows <= 25; ++rows)
            for (const std::int64_t columns : {1, 3, 4, 8, 15, 16, 17, 30, 32}) {
                INFO("kernel " << kernel << ", " << rows << " rows, " << columns << " columns");
                checkPanel(kernels[kernel], rows, columns, 50, 1);
                checkPanel(kernels[kernel], rows, columns, 1, 33);  // A transposed
            }
}

TEST_CASE("the same bytes for any number of threads") {
    Restore restore;
    for (const auto& [m, k, n] : {std::array<std::int64_t, 3>{600, 64, 300}, {1, 900, 700}, {33, 128, 512}}) {
        Problem problem(m, k, n);
        problem.epilogue.activation = Activation::geluErf;
        problem.epilogue.bias = problem.bias.data();
        setThreadCount(1);
        const std::vector<float> one = problem.run(KernelChoice::fastest);
        for (const int threads : {2, 3, 8}) {
            setThreadCount(threads);
            REQUIRE(sameBits(one, problem.run(KernelChoice::fastest)));
        }
    }
}

TEST_CASE("tiles cover the product and follow its size") {
    for (const std::int64_t m : {1, 5, 64, 256, 257, 512, 4096, 100000}) {
        for (const std::int64_t n : {1, 8, 384, 1536, 30522}) {
            for (const std::int64_t k : {1, 64, 384, 4096}) {
                const Tiles tiles = planTiles(m, n, k, 12, 32);
                REQUIRE(tiles.rows * tiles.rowTiles >= m);
                REQUIRE(tiles.rows * (tiles.rowTiles - 1) < m);
                REQUIRE(tiles.columns * tiles.columnTiles >= n);
                REQUIRE(tiles.columns * (tiles.columnTiles - 1) < n);
                REQUIRE(tiles.rows % 12 == 0);
                REQUIRE(tiles.columns % 32 == 0);
                std::set<std::pair<std::int64_t, std::int64_t>> corners;
                for (std::int64_t index = 0; index < tiles.count(); ++index) {
                    const auto [row, column] = tiles.corner(index);
                    REQUIRE((row < m && row % tiles.rows == 0 && column < n && column % tiles.columns == 0));
                    corners.emplace(row, column);
                }
                REQUIRE(static_cast<std::int64_t>(corners.size()) == tiles.count());
            }
        }
    }
    CHECK(planTiles(8, 8, 8, 12, 32).count() == 1);
    CHECK(planTiles(512, 384, 384, 12, 32).count() >= 4);
    CHECK(planTiles(1, 1536, 384, 12, 32).count() >= 2);
    CHECK(planTiles(1, 4096, 4096, 12, 32).count() >= 4);
    CHECK(planTiles(100000, 8, 8, 12, 32).count() < 64);
}

TEST_CASE("batched product: broadcasts, transposes, interleaved heads") {
    Restore restore;
    // Attention scores of [batch 2, sequence 19, heads 3, size 7] without moving the heads to the front.
    const std::int64_t batch = 2, sequence = 19, heads = 3, size = 7;
    const std::vector<float> q = randomFloats(batch * sequence * heads * size, "q");
    const std::vector<float> k = randomFloats(batch * sequence * heads * size, "k");
    BatchedMatmul params;
    params.batch = {batch, heads};
    params.m = params.n = sequence;
    params.k = size;
    params.a = q.data();
    params.b = k.data();
    params.aBatchStrides = params.bBatchStrides = {sequence * heads * size, size};
    params.aRowStride = heads * size;
    params.bRowStride = 1;
    params.bColumnStride = heads * size;
    params.cBatchStrides = {heads * sequence * sequence, sequence * sequence};
    params.cRowStride = sequence;
    params.epilogue.alpha = 0.37F;
    std::vector<float> c(static_cast<std::size_t>(batch * heads * sequence * sequence));
    params.c = c.data();
    matmul(params);
    for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t h = 0; h < heads; ++h)
            for (std::int64_t i = 0; i < sequence; ++i)
                for (std::int64_t j = 0; j < sequence; ++j) {
                    double sum = 0;
                    for (std::int64_t d = 0; d < size; ++d)
                        sum += static_cast<double>(q[((b * sequence + i) * heads + h) * size + d]) *
                               k[((b * sequence + j) * heads + h) * size + d];
                    REQUIRE(c[((b * heads + h) * sequence + i) * sequence + j] ==
                            Approx(0.37 * sum).margin(1e-5));
                }
}

TEST_CASE("batched product agrees with the reference for all layouts") {
    Restore restore;
    for (const std::int64_t m : {1, 3, 20, 300}) {
        for (const std::int64_t n : {1, 32, 45, 96}) {
            for (int layout = 0; layout < 8; ++layout) {
                const std::int64_t k = 23;
                const std::vector<float> a = randomFloats(2 * m * k, "a");
                const std::vector<float> b = randomFloats(3 * k * n, "b");
                const std::vector<float> bias = randomFloats(n, "bias");
                const std::vector<float> residual = randomFloats(6 * m * n, "residual");
                BatchedMatmul params;
                params.batch = {2, 3};
                params.m = m, params.n = n, params.k = k;
                params.a = a.data();
                params.b = b.data();
                params.aBatchStrides = {m * k, 0};
                params.bBatchStrides = {0, k * n};
                params.cBatchStrides = {3 * m * n, m * n};
                params.aRowStride = layout & 1 ? 1 : k;
                params.aColumnStride = layout & 1 ? m : 1;
                params.bRowStride = layout & 2 ? 1 : n;
                params.bColumnStride = layout & 2 ? k : 1;
                params.cRowStride = n;
                if (layout & 4) {
                    params.epilogue.bias = bias.data();
                    params.epilogue.residual = residual.data();
                    params.epilogue.activation = Activation::silu;
                }
                std::vector<float> expected(static_cast<std::size_t>(6 * m * n));
                std::vector<float> c = expected;
                params.c = expected.data();
                setKernelChoice(KernelChoice::reference);
                matmul(params);
                params.c = c.data();
                setKernelChoice(KernelChoice::fastest);
                matmul(params);
                INFO("m " << m << " n " << n << " layout " << layout);
                REQUIRE(maxDifference(c, expected) <= tolerance(k, expected));
                setThreadCount(3);
                std::vector<float> again(c.size());
                params.c = again.data();
                matmul(params);
                setThreadCount(0);
                REQUIRE(sameBits(c, again));
            }
        }
    }
}

TEST_CASE("plain product of other types: double is exact enough, integers wrap around") {
    const std::vector<std::int32_t> a = {2000000000, 2, 3, 4};
    const std::vector<std::int32_t> b = {2, 1, 1, 1};
    std::vector<std::int32_t> c(4);
    BatchedMatmulOf<std::int32_t> params;
    params.m = params.n = params.k = 2;
    params.a = a.data();
    params.b = b.data();
    params.c = c.data();
    params.aRowStride = params.bRowStride = params.cRowStride = 2;
    matmulPlain(params);
    CHECK(c[0] == static_cast<std::int32_t>(4000000002U));
    CHECK(c[1] == 2000000002);
    CHECK(c[2] == 10);
    CHECK(c[3] == 7);
}
