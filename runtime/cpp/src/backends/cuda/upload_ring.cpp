#include "backends/cuda/upload_ring.hpp"

#include <cstring>

namespace alterbute {
namespace {

constexpr std::size_t kAlignment = 256;

}  // namespace

UploadRing::UploadRing(CudaDevice& device, std::size_t bytes, std::size_t count, std::size_t depth)
    : device_(device), blocks_(depth) {
  try {
    for (Block& block : blocks_) {
      block.memory = static_cast<unsigned char*>(device_.allocate_pinned(bytes + count * kAlignment));
      block.event = device_.make_event();
    }
  } catch (const DeviceError&) {
    close();
    throw;
  }
}

void UploadRing::send(const std::vector<Upload>& uploads) {
  if (uploads.empty()) return;
  Block& block = blocks_[turn_];
  if (block.is_sent) device_.wait_for(block.event);
  unsigned char* place = block.memory;
  for (const Upload& upload : uploads) {
    std::memcpy(place, upload.from, upload.bytes);
    device_.upload(upload.to, place, upload.bytes);
    place += (upload.bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  device_.record(block.event);
  block.is_sent = true;
  turn_ = (turn_ + 1) % blocks_.size();
}

void UploadRing::close() {
  for (Block& block : blocks_) {
    if (block.event != nullptr) device_.destroy_event(block.event);
    if (block.memory != nullptr) device_.free_pinned(block.memory);
    block = {};
  }
}

}  // namespace alterbute
