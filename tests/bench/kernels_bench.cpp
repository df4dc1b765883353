// Speed of the kernels that a Transformer spends its time in, each next to oneDNN's own on as many threads,
// in turns.
//   kernels_bench [THREADS] [sgemm]
// Prints one line a case: shape, our GFLOP/s, oneDNN's, ratio. Times are the best of many short runs. With "sgemm":
// only the GFLOP/s of a large product by whichever is faster, which is this machine's rate for others to compare with.

#include <fmt/core.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <dnnl.hpp>
#include <functional>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "kernels/matmul_int8.h"
#include "kernels/normalization.h"
#include "kernels/quantize.h"
#include "kernels/softmax.h"
#include "kernels/transpose.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;
using namespace tcompress::kernels;

std::vector<float> randomFloats(std::int64_t count) {
    Random random(1, "bench");
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(random.normal());
    return values;
}

double seconds(const std::function<void()>& run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Best time of each, in turns. OpenMP's threads go on spinning for some milliseconds after their work, so
/// each turn starts with a pause, and a run that is not counted wakes our own threads.
template <std::size_t kCount>
std::array<double, kCount> bestTimes(const std::array<std::function<void()>, kCount>& runs) {
    constexpr int kRounds = 5;
    constexpr int kRunsPerRound = 8;
    std::array<double, kCount> best;
    best.fill(1e30);
    for (int round = 0; round < kRounds; ++round)
        for (std::size_t i = 0; i < kCount; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            runs[i]();
            for (int run = 0; run < kRunsPerRound; ++run) best[i] = std::min(best[i], seconds(runs[i]));
        }
    return best;
}

/// oneDNN's product as it is meant to be used: its own choice of layout, its own threads.
std::function<void()> onednnProduct(std::int64_t m, std::int64_t k, std::int64_t n, const float* a,
                                    const float* b, float* c) {
    using Type = dnnl::memory::data_type;
    using Tag = dnnl::memory::format_tag;
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const dnnl::memory::desc plainB({k, n}, Type::f32, Tag::ab);
    const dnnl::matmul::primitive_desc desc(engine, dnnl::memory::desc({m, k}, Type::f32, Tag::ab),
                                            dnnl::memory::desc({k, n}, Type::f32, Tag::any),
                                            dnnl::memory::desc({m, n}, Type::f32, Tag::ab));
    dnnl::memory weights(desc.weights_desc(), engine);
    dnnl::memory plain(plainB, engine, const_cast<float*>(b));
    dnnl::stream stream(engine);
    dnnl::reorder(plain, weights).execute(stream, plain, weights);
    const dnnl::memory source(desc.src_desc(), engine, const_cast<float*>(a));
    const dnnl::memory target(desc.dst_desc(), engine, c);
    const dnnl::matmul primitive(desc);
    return [=]() mutable {
        primitive.execute(stream,
                          {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, target}});
        stream.wait();
    };
}

void benchProducts(int threads) {
    fmt::print("product M×K×N            ours GF/s  gelu GF/s  oneDNN GF/s  ratio | dynamic int8 GF/s\n");
    const std::array<std::int64_t, 3> shapes[] = {{512, 384, 1536},   {512, 1536, 384}, {512, 384, 384},
                                                  {512, 384, 1152},   {16, 384, 1536},  {128, 384, 384},
                                                  {1, 384, 1536},     {4096, 384, 384}, {1024, 1024, 4096},
                                                  {1024, 4096, 1024}, {1, 4096, 4096}};
    for (const auto& [m, k, n] : shapes) {
        const std::vector<float> a = randomFloats(m * k);
        const std::vector<float> b = randomFloats(k * n);
        const std::vector<float> bias = randomFloats(n);
        std::vector<float> c(static_cast<std::size_t>(m * n));
        const PackedWeightsPtr weights = packWeights(b.data(), k, n);
        PackedMatmul plain{a.data(), k, m, weights.get(), c.data(), n, {}};
        PackedMatmul gelu = plain;
        gelu.epilogue.bias = bias.data();
        gelu.epilogue.activation = Activation::geluErf;
        std::vector<std::int8_t> b8(b.size());
        const float scale = 0.02F;
        quantizeLinear(
            {{Granularity::tensor, 1, k, n, 0}, b.data(), &scale, nullptr, DType::int8, b8.data()});
        const PackedInt8WeightsPtr weights8 = packInt8Weights(b8.data(), DType::int8, k, n, n, 1, {});
        const DynamicInt8Matmul dynamic{a.data(),    k,        m, weights8.get(),
                                        {&scale, 1}, c.data(), n, gelu.epilogue};
        omp_set_num_threads(threads);  // our own use of oneDNN has set this thread to one
        const auto [ours, withGelu, int8, theirs] =
            bestTimes<4>({[&] { matmul(plain); }, [&] { matmul(gelu); }, [&] { matmulInt8(dynamic); },
                          onednnProduct(m, k, n, a.data(), b.data(), c.data())});
        const double flops = 2e-9 * static_cast<double>(m * k * n);
        fmt::print("{:5} × {:4} × {:4}     {:9.1f}  {:9.1f}  {:11.1f}  {:5.2f} | {:9.1f}\n", m, k, n,
                   flops / ours, flops / withGelu, flops / theirs, theirs / ours, flops / int8);
    }
}

/// GFLOP/s of the faster of ours and oneDNN's over half a second at a stretch, as long as a large model's forward pass.
double bestProductRate(int threads) {
    constexpr double kStretchSeconds = 0.5;
    constexpr int kRounds = 4;
    const std::int64_t m = 1024, k = 1024, n = 4096;
    const std::vector<float> a = randomFloats(m * k);
    const std::vector<float> b = randomFloats(k * n);
    std::vector<float> c(static_cast<std::size_t>(m * n));
    const PackedWeightsPtr weights = packWeights(b.data(), k, n);
    const PackedMatmul plain{a.data(), k, m, weights.get(), c.data(), n, {}};
    omp_set_num_threads(threads);
    const std::array<std::function<void()>, 2> products{[&] { matmul(plain); },
                                                        onednnProduct(m, k, n, a.data(), b.data(), c.data())};
    double best = 0;
    for (int round = 0; round < kRounds; ++round)
        for (const auto& product : products) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            double elapsed = 0;
            int runs = 0;
            for (; elapsed < kStretchSeconds; ++runs) elapsed += seconds(product);
            best = std::max(best, 2e-9 * static_cast<double>(m * k * n) * runs / elapsed);
        }
    return best;
}

void benchRows() {
    fmt::print("\nother kernels                         µs\n");
    const auto report = [](const char* name, const std::function<void()>& run) {
        fmt::print("{:34} {:7.1f}\n", name, bestTimes<1>({run})[0] * 1e6);
    };
    const std::int64_t rows = 512, columns = 384, heads = 12, length = 64, size = 32;
    const std::vector<float> x = randomFloats(rows * 1536);
    std::vector<float> y(x.size());
    Attention attended;
    attended.batch = 8;
    attended.queryHeads = attended.keyValueHeads = heads;
    attended.queryLength = attended.keyLength = length;
    attended.headSize = attended.valueHeadSize = size;
    attended.q = x.data();
    attended.k = x.data() + columns;
    attended.v = x.data() + 2 * columns;
    attended.qStrides = attended.kStrides = attended.vStrides = {length * 3 * columns, size, 3 * columns};
    attended.out = y.data();
    attended.outStrides = {length * columns, size, columns};
    attended.scale = 0.17F;
    report("attention 8 × 12 heads × 64 × 32", [&] { attention(attended); });
    const LayerNormalization normalization{rows,    columns,  x.data(), x.data(), 0,
                                           nullptr, x.data(), x.data(), 1e-5F,    y.data()};
    report("skip + layer norm 512 × 384", [&] { layerNormalization(normalization); });
    report("gelu 512 × 1536", [&] { activate(Activation::geluErf, x, y); });
    report("softmax 6144 × 64", [&] {
        softmax(Softmax{SoftmaxKind::softmax, x.data(), y.data(), 6144, 64, 1});
    });
    std::vector<std::uint8_t> q(x.size());
    report("dynamic quantize 512 × 1536", [&] { (void)dynamicQuantizeLinear(x, q); });
    const std::array<std::int64_t, 4> shape = {8, 64, 12, 32};
    const std::array<std::int64_t, 4> permutation = {0, 2, 1, 3};
    report("transpose 8 × 64 × 12 × 32 (0213)",
           [&] { transpose(x.data(), 4, shape, permutation, y.data()); });
    const std::array<std::int64_t, 4> last = {0, 2, 3, 1};
    report("transpose 8 × 64 × 12 × 32 (0231)", [&] { transpose(x.data(), 4, shape, last, y.data()); });
    report("one empty parallelFor(2)", [] { parallelFor(2, [](std::int64_t) {}); });
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    if (threads < 1) {
        fmt::print(stderr, "kernels_bench: the number of threads must be at least 1\n");
        return 2;
    }
    setThreadCount(threads);
    if (argc > 2 && std::string_view(argv[2]) == "sgemm") {
        fmt::print("{:.1f}\n", bestProductRate(threads));
        return 0;
    }
    benchProducts(threads);
    benchRows();
    return 0;
}
