// Gaussian noise that is the same in every language: Philox4x32-10, then Box-Muller. The Python module
// `alterbute.denoise.noise` describes the layout; this is its port.
#pragma once

#include <cstddef>
#include <cstdint>

namespace alterbute {

// Fills `noise` with `size` standard normal numbers.
//   image: index of the image within its request; step: 0 for the first latent, k + 1 for the fresh noise of solver
//   step k.
void draw_noise(std::uint64_t seed, std::uint32_t image, std::uint32_t step, float* noise, std::size_t size);

}  // namespace alterbute
