#pragma once
// Random numbers that are the same on every platform and library version: xoshiro256** (Blackman and Vigna, 2018),
// seeded through SplitMix64 from a seed and a name. Each purpose has its own named stream, so that adding a draw in
// one place changes no other.

#include <array>
#include <cstdint>
#include <string_view>

namespace tcompress {

class Random {
  public:
    Random(std::uint64_t seed, std::string_view purpose);

    std::uint64_t bits();
    /// Uniform in [0, bound), without modulo bias. bound > 0.
    std::uint64_t below(std::uint64_t bound);
    /// Uniform in [0, 1).
    double uniform();
    /// Standard normal (Box–Muller).
    double normal();

  private:
    std::array<std::uint64_t, 4> state_;
};

}  // namespace tcompress
