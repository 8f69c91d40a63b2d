// Keeps every other use of CUDA by this library out of a capture. ONNX Runtime captures in CUDA's global mode, in which
// an allocation by any thread of the process makes the capture fail; an editor cannot see that another one captures.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace alterbute {

// Held by a launch that captures.
std::unique_lock<std::shared_mutex> lock_for_capture();
// Held by everything else that calls CUDA.
std::shared_lock<std::shared_mutex> lock_for_use();

}  // namespace alterbute
