// Percentile calibration of every computed input of every MatMul on random token ids.
//   calibration_bench MODEL SAMPLES LENGTH [THREADS]
// Prints one JSON object: bytes of constant data, values calibrated, seconds, the process's peak resident
// bytes, and the thresholds' sum, which tells whether two runs saw the same.

#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <vector>

#include "lib/calibration/clip_range.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/histogram.h"
#include "lib/data/inputs.h"
#include "lib/ir/load.h"
#include "lib/measure/machine.h"
#include "lib/support/parallel.h"

int main(int argc, char** argv) {
    using namespace tcompress;
    if (argc < 4) {
        fmt::print(stderr, "usage: calibration_bench MODEL SAMPLES LENGTH [THREADS]\n");
        return 2;
    }
    setThreadCount(argc > 4 ? std::atoi(argv[4]) : 0);
    const ir::Model model = ir::load(argv[1]);
    std::map<std::string, std::int64_t> sizes;
    for (const data::InputInfo& input : data::modelInputs(model))
        for (const data::InputDim& dim : input.dims) sizes[dim.symbol] = std::atoll(argv[3]);
    const data::Dataset samples = data::syntheticDataset(model, std::atoll(argv[2]), 1, sizes);
    const auto start = std::chrono::steady_clock::now();
    calibration::Collector collector(model);
    std::map<const ir::Value*, const calibration::Histogram*> histograms;
    for (const auto& node : model.graph().nodes()) {
        if (!node->is("MatMul")) continue;
        for (const ir::Value* input : node->inputs())
            if (input->constant() == nullptr && !histograms.contains(input))
                histograms[input] = &collector.add<calibration::HistogramCounts>(input).result();
    }
    collector.run(samples, silentProgress());
    double thresholds = 0;
    for (const auto& [value, histogram] : histograms)
        thresholds += percentileRange(*histogram, 0.9999, calibration::RangeKind::symmetric).high;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print(
        "{{\"model_bytes\": {}, \"values\": {}, \"seconds\": {:.2f}, \"peak_bytes\": {}, \"thresholds\": "
        "{:.17g}}}\n",
        model.constantBytes(), histograms.size(), seconds, measure::peakMemoryBytes(), thresholds);
}
