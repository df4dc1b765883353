// Time and memory of the methods that round one large layer with its statistics given.
//   quantize_bench [SIZE] [THREADS]        default: 4096, all
// Prints one line a method: seconds, the memory that it took beyond its inputs as multiples of the float32 layer,
// and the relative error of the output. Weights are normal; activations are of 16 directions with noise, so
// that second moments are far from diagonal.

#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>

#include "kernels/gram.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/awq_solver.h"
#include "passes/quantize/solver/code_descent.h"
#include "passes/quantize/solver/gptq_solver.h"
#include "passes/quantize/solver/hqq_solver.h"

namespace {

using namespace tcompress;
using namespace tcompress::passes;

std::vector<float> normals(std::int64_t count, const char* purpose) {
    Random random(1, purpose);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(random.normal());
    return values;
}

struct Inputs {
    std::vector<float> weights;
    std::vector<double> secondMoment, meanAbsolute;
    std::vector<float> importance;
};

Inputs inputsOf(std::int64_t n) {
    constexpr std::int64_t kDirections = 16, kRowsAtOnce = 256;
    Inputs inputs{normals(n * n, "weights"), std::vector<double>(static_cast<std::size_t>(n * n), 0.0), {}, {}};
    inputs.meanAbsolute.assign(static_cast<std::size_t>(n), 0.0);
    const std::vector<float> directions = normals(kDirections * n, "directions");
    Random random(2, "rows");
    std::vector<float> x(static_cast<std::size_t>(kRowsAtOnce * n));
    for (std::int64_t done = 0; done < 2 * n; done += kRowsAtOnce) {
        for (std::int64_t row = 0; row < kRowsAtOnce; ++row) {
            float* values = x.data() + row * n;
            for (std::int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(random.normal());
            for (std::int64_t k = 0; k < kDirections; ++k) {
                const auto share = static_cast<float>(random.normal());
                for (std::int64_t i = 0; i < n; ++i) values[i] += share * directions[static_cast<std::size_t>(k * n + i)];
            }
            for (std::int64_t i = 0; i < n; ++i) inputs.meanAbsolute[static_cast<std::size_t>(i)] += std::fabs(values[i]);
        }
        kernels::accumulateGram(x, kRowsAtOnce, n, inputs.secondMoment);
    }
    for (std::int64_t i = 0; i < n; ++i)
        inputs.importance.push_back(static_cast<float>(inputs.secondMoment[static_cast<std::size_t>(i * n + i)]));
    return inputs;
}

/// "VmHWM" or "VmRSS" of this process, in bytes.
double processBytes(const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == name + ":") {
            double kilobytes = 0;
            status >> kilobytes;
            return kilobytes * 1024;
        }
    return 0;
}

class Bench {
  public:
    explicit Bench(std::int64_t n) : n_(n), inputs_(inputsOf(n)), layout_(groupedLayout({n, n}, 0, 32)) {
        rule_.bits = 4;
        rule_.symmetry = Symmetry::asymmetric;
        rule_.range = RangeChoice::mse;
        rule_.scaleType = DType::float16;
    }

    void run() {
        fmt::print("{} x {}, 4 bits, groups of 32      seconds   x layer   error\n", n_, n_);
        measure("nearest", [&] { codes_ = *quantizeWeights(inputs_.weights, layout_, rule_); });
        measure("HQQ", [&] { codes_ = *quantizeByHqq(inputs_.weights, layout_, rule_, {}, inputs_.importance); });
        measure("AWQ, 20 exponents", [&] {
            const AwqLayer layer{inputs_.weights, layout_};
            AwqSolution solved =
                *quantizeByAwq({&layer, 1}, rule_, inputs_.secondMoment, inputs_.meanAbsolute, 20);
            codes_ = std::move(solved.weights.front());
            for (const float scale : solved.scales) factors_.push_back(1 / scale);
        });
        measure("GPTQ", [&] { codes_ = gptq(); });
        measure("descent behind it", [&] { descend(codes_, inputs_.weights, inputs_.secondMoment, {}); });
        layout_ = groupedLayout({n_, n_}, 0, n_);
        fmt::print("a scale per channel\n");
        measure("GPTQ", [&] { codes_ = gptq(); });
        measure("descent behind it", [&] { descend(codes_, inputs_.weights, inputs_.secondMoment, {}); });
    }

  private:
    QuantizedWeights gptq() const {
        return *quantizeByGptq(inputs_.weights, layout_, rule_,
                               feedbackFactor(inputs_.secondMoment, n_, 0.01, ColumnOrder::activation));
    }

    void measure(const char* name, const std::function<void()>& method) {
        factors_.clear();
        std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts again from what is used now
        const double before = processBytes("VmRSS");
        const auto start = std::chrono::steady_clock::now();
        method();
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const double layers =
            (processBytes("VmHWM") - before) / (static_cast<double>(n_ * n_) * sizeof(float));
        const std::vector<float> values = scaledByInputChannel(dequantizeWeights(codes_), layout_, factors_);
        fmt::print("{:34} {:7.2f} {:9.2f} {:7.4f}\n", name, seconds, layers,
                   relativeOutputError(inputs_.weights, values, layout_, inputs_.secondMoment));
    }

    std::int64_t n_;
    Inputs inputs_;
    kernels::QuantizationLayout layout_;
    QuantizationRule rule_;
    QuantizedWeights codes_;
    std::vector<float> factors_;  ///< of input channels, behind the codes; empty: all 1
};

}  // namespace

int main(int argc, char** argv) {
    if (argc > 2) setThreadCount(std::atoi(argv[2]));
    Bench(argc > 1 ? std::atoll(argv[1]) : 4096).run();
}
