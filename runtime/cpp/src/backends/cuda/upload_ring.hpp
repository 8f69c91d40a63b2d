// Asynchronous uploads: a ring of pinned blocks, each used again when its copies are done.
#pragma once

#include <cstddef>
#include <vector>

#include "backends/cuda/cuda_device.hpp"

namespace alterbute {

// Bytes to copy to a device address.
struct Upload {
  void* to;
  const void* from;
  std::size_t bytes;
};

// Used on the device's thread.
class UploadRing {
 public:
  // `bytes` is the size of one block, which every send must fit in; `depth` how many sends may be under way before the
  // host waits for the first of them; `count` the most copies of one send.
  UploadRing(CudaDevice& device, std::size_t bytes, std::size_t count, std::size_t depth);
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  // Copies the bytes to pinned memory and enqueues their copies; the sources may change once this returns.
  void send(const std::vector<Upload>& uploads);
  // Frees the blocks; no copy may be under way.
  void close();

 private:
  struct Block {
    unsigned char* memory = nullptr;
    void* event = nullptr;
    bool is_sent = false;
  };

  CudaDevice& device_;
  std::vector<Block> blocks_;
  std::size_t turn_ = 0;
};

}  // namespace alterbute
