#pragma once
// Energy of an inference: the processor's own counters (RAPL) when they can be read, else a model of
// arithmetic and memory traffic. Which of the two it is always stands beside the figure.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/analysis/cost.h"
#include "lib/measure/evaluate.h"

namespace tcompress::measure {

/// Counters of the processor packages (Intel Software Developer's Manual vol. 3B, "Package RAPL Domain"; AMD
/// has the same) as Linux shows them (Documentation/power/powercap/powercap.rst).
class RaplCounters {
  public:
    /// Empty when there is no package counter or it may not be read (since Linux 5.10 only root may).
    static std::optional<RaplCounters> open(const std::filesystem::path& root = "/sys/class/powercap");

    /// Microjoules of each package, each counting up to its own range and then from 0 again.
    std::vector<std::uint64_t> read() const;
    /// Sum over packages between two readings, at most one wrap-around of each counter in between.
    double joules(const std::vector<std::uint64_t>& before, const std::vector<std::uint64_t>& after) const;

  private:
    struct Package {
        std::filesystem::path counter;
        std::uint64_t range = 0;  ///< largest value of the counter, microjoules
    };
    std::vector<Package> packages_;
};

/// Runs `inference` for at least `seconds` (and 10 times) between two readings. One call is `batch`
/// inferences.
Energy measuredEnergy(const RaplCounters& counters, const std::function<void()>& inference,
                      std::int64_t batch, double gridGramsPerKwh, double seconds = 1.0);

/// Arithmetic (MACs by data type) plus reading the weights from DRAM once.
Energy modelledEnergy(const analysis::ModelCost& cost, std::int64_t weightBytesRead, double gridGramsPerKwh);

/// Bytes of constant data that one inference reads: everything, but of a table that is only gathered from,
/// `tokens` rows.
std::int64_t weightBytesRead(const ir::Model& model, std::int64_t tokens);

}  // namespace tcompress::measure
