// Pictures and prompts to the UNet's inputs, each encoded once: results are cached by their inputs' content.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "bundle/bundle.hpp"
#include "backends/engines.hpp"
#include "denoise/lane.hpp"
#include "images/picture.hpp"
#include "images/region.hpp"
#include "images/window.hpp"
#include "encode/tokenizer.hpp"

namespace alterbute {

// The part of a picture that the model sees, at the model's resolution, and how much of the edit each pixel of the box
// gets.
struct WindowImages {
  Array pixels, object_mask, edit_mask, alpha;
};

// A window of a photo, cropped and not encoded.
struct CroppedWindow {
  Box box;
  Array pixels;  // the photo's own pixels in the box, of its own depth and colour space
  WindowImages images;
  std::optional<WindowImages> reference;  // of the reference, for a scene that has one; else the photo's own window
  std::optional<WindowImages> close_up;   // the object that gives the identity
};

// Graph outputs by a digest of the inputs; the least recently used go first. Used by any number of threads.
class ContentCache {
 public:
  std::shared_ptr<const Arrays> find(const std::string& key);
  void put(const std::string& key, std::shared_ptr<const Arrays> outputs);

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Arrays> outputs;
    std::size_t bytes;
  };

  std::mutex mutex_;
  std::list<Entry> entries_;  // most recent first
  std::map<std::string, std::list<Entry>::iterator> places_;
  std::size_t bytes_ = 0;
};

// The graphs before the lane. Every picture and prompt is encoded alone, so that its bits depend on nothing else.
class Encoder {
 public:
  Encoder(std::shared_ptr<const Bundle> bundle, const Engines& engines)
      : bundle_(std::move(bundle)), engines_(engines) {}

  // The window of a picture and its masks in 8-bit sRGB, resized to `size` x `size`. What lies under transparent pixels
  // reaches no pixel of it.
  WindowImages view(const Picture& picture, const Region& region, const Box& box, std::int64_t size) const;
  // One window of a photo, or one for each of several distant objects.
  std::vector<CroppedWindow> crop_photo(const Picture& photo, const Region& region,
                                        const std::optional<ReferencePicture>& reference) const;
  Scene encode_window(const CroppedWindow& window) const;
  // The decoded latent of the photo's own window, [S,S,3] uint8; made once for equal windows.
  Array decode_roundtrip(const Scene& scene) const;
  // Throws InputError: not text, or longer than the window.
  EncodedPrompt encode_prompt(const std::string& prompt) const;
  std::vector<std::int64_t> tokenize(const std::string& prompt) const { return tokenizer()->encode(prompt); }
  // Opened on first use. Throws BundleError.
  std::shared_ptr<const Tokenizer> tokenizer() const;

 private:
  std::shared_ptr<const Arrays> encode(const std::string& graph, const ArrayViews& inputs) const;

  std::shared_ptr<const Bundle> bundle_;
  const Engines& engines_;
  mutable ContentCache cache_;
  mutable std::mutex tokenizer_mutex_;
  mutable std::shared_ptr<const Tokenizer> tokenizer_;
};

// An output by name, moved out; and the first entry of its batch axis. Throws EngineError when there is none.
Array take(Arrays& outputs, const std::string& graph, const std::string& name);
Array first_of(const Arrays& outputs, const std::string& graph, const std::string& name);

// Throws EngineError when the array holds NaN or infinity.
void check_finite(const std::string& graph, const std::string& name, const Array& array);

}  // namespace alterbute
