#include "denoise/noise.hpp"

#include <array>
#include <cmath>

namespace alterbute {
namespace {

using Words = std::array<std::uint32_t, 4>;

constexpr double kTwoPi = 2.0 * 3.14159265358979323846;

// Philox4x32-10 of Salmon et al. (SC11), as Random123 defines it.
Words philox4x32(Words counter, std::uint32_t key0, std::uint32_t key1) {
  for (int turn = 0; turn < 10; ++turn) {
    const std::uint64_t first = std::uint64_t{0xD2511F53} * counter[0], second = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(second >> 32U) ^ counter[1] ^ key0, static_cast<std::uint32_t>(second),
               static_cast<std::uint32_t>(first >> 32U) ^ counter[3] ^ key1, static_cast<std::uint32_t>(first)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

double to_uniform(std::uint32_t word) { return (word + 0.5) / 4294967296.0; }

}  // namespace

void draw_noise(std::uint64_t seed, std::uint32_t image, std::uint32_t step, float* noise, std::size_t size) {
  for (std::size_t block = 0; block * 4 < size; ++block) {
    const Words words = philox4x32({static_cast<std::uint32_t>(block), step, image, 0},
                                   static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U));
    for (std::size_t pair = 0; pair < 4; pair += 2) {
      const std::size_t at = block * 4 + pair;
      const double radius = std::sqrt(-2.0 * std::log(to_uniform(words[pair]))),
                   angle = kTwoPi * to_uniform(words[pair + 1]);
      if (at < size) noise[at] = static_cast<float>(radius * std::cos(angle));
      if (at + 1 < size) noise[at + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }
}

}  // namespace alterbute
