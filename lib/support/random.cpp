#include "lib/support/random.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "lib/support/check.h"

namespace tcompress {

namespace {

std::uint64_t splitMix64(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/// FNV-1a, 64 bits.
std::uint64_t hashOf(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return hash;
}

}  // namespace

Random::Random(std::uint64_t seed, std::string_view purpose) {
    // The hash goes through the mixer too, so that neighbouring seeds with similar names are unrelated.
    std::uint64_t name = hashOf(purpose);
    std::uint64_t state = splitMix64(seed) ^ splitMix64(name);
    for (std::uint64_t& word : state_) word = splitMix64(state);
}

std::uint64_t Random::bits() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

std::uint64_t Random::below(std::uint64_t bound) {
    TCOMPRESS_CHECK(bound > 0, "Random::below needs a positive bound");
    // Values under 2^64 mod bound would make the low remainders likelier: draw again.
    const std::uint64_t threshold = (0 - bound) % bound;
    std::uint64_t value = bits();
    while (value < threshold) value = bits();
    return value % bound;
}

double Random::uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

double Random::normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace tcompress
