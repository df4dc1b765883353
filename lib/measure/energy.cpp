#include "lib/measure/energy.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <string_view>

namespace tcompress::measure {
namespace {

// M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, table of 45 nm CMOS at
// 0.9 V: energy of one multiplication plus one addition in picojoules. int8 products are added up in 32 bits.
struct MacEnergy {
    std::string_view type;
    double picojoules;
};
constexpr double picojoulesFloat32 = 3.7 + 0.9, picojoulesFloat16 = 1.1 + 0.4, picojoulesInt8 = 0.2 + 0.1,
                 picojoulesInt32 = 3.1 + 0.1;
constexpr std::array<MacEnergy, 8> macEnergies{{{"float32", picojoulesFloat32},
                                                {"float16", picojoulesFloat16},
                                                {"bfloat16", picojoulesFloat16},
                                                {"int8", picojoulesInt8},
                                                {"uint8", picojoulesInt8},
                                                {"int4", picojoulesInt8},
                                                {"uint4", picojoulesInt8},
                                                {"int32", picojoulesInt32}}};
// One 32-bit word from DRAM (Han et al., "Learning both weights and connections for efficient neural
// networks", NeurIPS 2015, table 1, from the same source).
constexpr double picojoulesDramWord = 640.0;

double macPicojoules(std::string_view type) {
    for (const MacEnergy& energy : macEnergies)
        if (energy.type == type) return energy.picojoules;
    return picojoulesFloat32;
}

double gramsCo2ePerThousand(double joules, double gridGramsPerKwh) {
    constexpr double joulesPerKwh = 3.6e6;
    return 1000 * joules / joulesPerKwh * gridGramsPerKwh;
}

/// Whether the node takes rows of this table by number and never looks at the others.
bool readsRowsOnly(const ir::Use& use) {
    if (use.kind != ir::UseKind::input || use.node == nullptr) return false;
    if (use.node->is("Gather")) return use.index == 0 && use.node->attributeInt("axis", 0) == 0;
    if (use.node->is("com.microsoft", "GatherBlockQuantized"))
        return use.index != 1 && use.node->attributeInt("gather_axis", 0) == 0;
    // Inputs 2 to 4 are the word, position and segment tables.
    return use.node->is("com.microsoft", "EmbedLayerNormalization") && use.index >= 2 && use.index <= 4;
}

std::optional<std::uint64_t> readNumber(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    if (file >> value) return value;
    return std::nullopt;
}

}  // namespace

std::optional<RaplCounters> RaplCounters::open(const std::filesystem::path& root) {
    RaplCounters counters;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
        std::string name;
        std::ifstream(entry.path() / "name") >> name;
        // "package-0" …; core, uncore and dram are parts of it or beside it, psys is the whole board.
        if (!std::string_view(name).starts_with("package")) continue;
        const auto range = readNumber(entry.path() / "max_energy_range_uj");
        if (range && readNumber(entry.path() / "energy_uj"))
            counters.packages_.push_back({entry.path() / "energy_uj", *range});
    }
    if (counters.packages_.empty()) return std::nullopt;
    std::sort(counters.packages_.begin(), counters.packages_.end(),
              [](const Package& a, const Package& b) { return a.counter < b.counter; });
    return counters;
}

std::vector<std::uint64_t> RaplCounters::read() const {
    std::vector<std::uint64_t> values;
    for (const Package& package : packages_) values.push_back(readNumber(package.counter).value_or(0));
    return values;
}

double RaplCounters::joules(const std::vector<std::uint64_t>& before,
                            const std::vector<std::uint64_t>& after) const {
    double microjoules = 0;
    for (std::size_t i = 0; i < packages_.size(); ++i) {
        const bool wrapped = after[i] < before[i];
        microjoules += static_cast<double>(after[i] + (wrapped ? packages_[i].range : 0) - before[i]);
    }
    return microjoules * 1e-6;
}

Energy measuredEnergy(const RaplCounters& counters, const std::function<void()>& inference,
                      std::int64_t batch, double gridGramsPerKwh, double seconds) {
    using Clock = std::chrono::steady_clock;
    constexpr std::int64_t fewestRuns = 10;
    inference();
    std::int64_t runs = 0;
    const auto before = counters.read();
    const auto start = Clock::now();
    while (runs < fewestRuns || std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
        inference();
        ++runs;
    }
    const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    const double joules = counters.joules(before, counters.read());

    Energy energy;
    energy.measured = true;
    energy.joulesPerInference = joules / static_cast<double>(runs * batch);
    energy.method = fmt::format(
        "measured: RAPL package counters over {} runs in {:.2f} s, the whole processor package with its idle "
        "share and "
        "whatever else ran on it; memory outside the package is not in it",
        runs, elapsed);
    energy.gridGramsPerKwh = gridGramsPerKwh;
    energy.gramsCo2e = gramsCo2ePerThousand(energy.joulesPerInference, gridGramsPerKwh);
    return energy;
}

Energy modelledEnergy(const analysis::ModelCost& cost, std::int64_t weightBytes, double gridGramsPerKwh) {
    Energy energy;
    double picojoules = 0;
    for (const auto& [type, macs] : cost.macsByType)
        picojoules += macPicojoules(type) * static_cast<double>(macs);
    energy.arithmeticJoules = picojoules * 1e-12;
    energy.memoryJoules = picojoulesDramWord / 4 * static_cast<double>(weightBytes) * 1e-12;
    energy.joulesPerInference = energy.arithmeticJoules + energy.memoryJoules;
    energy.method = fmt::format(
        "modelled, not measured: MACs by data type (45 nm: float32 {:.1f} pJ, float16 {:.1f} pJ, int8 {:.1f} "
        "pJ; Horowitz, ISSCC "
        "2014) plus {} bytes of weights read once from DRAM ({:.0f} pJ a 32-bit word; Han et al., NeurIPS "
        "2015); batch 1{}; activations, control and idle power left out: good for ratios, not for absolute figures",
        picojoulesFloat32, picojoulesFloat16, picojoulesInt8, weightBytes, picojoulesDramWord,
        cost.sequenceLength > 0 ? fmt::format(", length {}", cost.sequenceLength) : "");
    energy.gridGramsPerKwh = gridGramsPerKwh;
    energy.gramsCo2e = gramsCo2ePerThousand(energy.joulesPerInference, gridGramsPerKwh);
    return energy;
}

std::int64_t weightBytesRead(const ir::Model& model, std::int64_t tokens) {
    std::int64_t total = 0;
    for (const ir::Value* value : model.graph().values()) {
        if (value->constant() == nullptr) continue;
        const auto bytes = static_cast<std::int64_t>(value->constant()->sizeBytes());
        const Shape& shape = value->constant()->shape();
        const auto& uses = value->uses();
        if (!shape.empty() && shape[0] > 0 && !uses.empty() &&
            std::all_of(uses.begin(), uses.end(), readsRowsOnly)) {
            const std::int64_t rows =
                std::min(shape[0], std::max<std::int64_t>(tokens, 1) * static_cast<std::int64_t>(uses.size()));
            total += bytes / shape[0] * rows;
        } else {
            total += bytes;
        }
    }
    return total;
}

}  // namespace tcompress::measure
