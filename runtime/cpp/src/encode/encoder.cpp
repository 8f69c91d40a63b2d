#include "encode/encoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bundle/sha256.hpp"
#include "base/text.hpp"
#include "images/depth.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kCacheBytes = 256U << 20;

std::string content_key(const std::string& graph, const ArrayViews& inputs) {
  Sha256 digest;
  digest.update(graph.data(), graph.size());
  for (const auto& [name, view] : inputs) {
    digest.update(name.c_str(), name.size() + 1);
    const std::uint64_t rank = view.shape.size();
    digest.update(&rank, sizeof rank);
    digest.update(view.shape.data(), view.shape.size() * sizeof(std::int64_t));
    digest.update(view.data, view.bytes());
  }
  return digest.hex();
}

// A view with a batch axis of 1 before the array's own axes.
ArrayView batch_of_one(const Array& array) {
  ArrayView view = array.view();
  view.shape.insert(view.shape.begin(), 1);
  return view;
}

Array whole_numbers(std::initializer_list<std::int64_t> values) {
  Array array = make_array<std::int64_t>({static_cast<std::int64_t>(values.size())});
  std::copy(values.begin(), values.end(), array.as<std::int64_t>());
  return array;
}

// The opacity of a picture without transparency.
Array opaque() {
  Array opacity(DType::uint8, {1, 1});
  *opacity.as<std::uint8_t>() = 255;
  return opacity;
}

std::size_t size_of_all(const Arrays& arrays) {
  std::size_t bytes = 0;
  for (const auto& [name, array] : arrays) bytes += array.bytes();
  return bytes;
}

}  // namespace

std::shared_ptr<const Arrays> ContentCache::find(const std::string& key) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto place = places_.find(key);
  if (place == places_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, place->second);
  return place->second->outputs;
}

void ContentCache::put(const std::string& key, std::shared_ptr<const Arrays> outputs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (places_.count(key) != 0) return;
  const std::size_t bytes = size_of_all(*outputs);
  entries_.push_front({key, std::move(outputs), bytes});
  places_[key] = entries_.begin();
  bytes_ += bytes;
  while (bytes_ > kCacheBytes && entries_.size() > 1) {
    bytes_ -= entries_.back().bytes;
    places_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

WindowImages Encoder::view(const Picture& picture, const Region& region, const Box& box, std::int64_t size) const {
  const std::int64_t dilate = region.dilate ? *region.dilate : bundle_->manifest().mask.dilate;
  // Only the part of the box that lies in the picture is converted and passed on: a larger picture costs no more.
  const Box part = box.inside(picture.height(), picture.width());
  const Array place =
      whole_numbers({box.top - part.top, box.left - part.left, box.bottom - part.top, box.right - part.left});
  const Array sides = whole_numbers({size, size});
  Array image = to_8_bits(cut(picture.pixels, part));
  if (picture.space != nullptr) image = picture.space->to_srgb(image);
  const Array opacity = picture.alpha ? visible(cut(*picture.alpha, part)) : opaque();
  const Array mask = cut(region.object, part), edit = cut(region.edit, part), protect = cut(region.protect, part);
  // Half of the rim grows, the other half is its soft edge.
  const int blur = region.rim / 2;
  const Array rules = whole_numbers({dilate / 2, region.kind == MaskKind::soft ? 1 : 0, region.rim - blur, blur});
  Arrays out = engines_.run("window", {{"image", image.view()},
                                       {"opacity", opacity.view()},
                                       {"mask", mask.view()},
                                       {"region", edit.view()},
                                       {"protect", protect.view()},
                                       {"box", place.view()},
                                       {"size", sides.view()},
                                       {"rules", rules.view()}},
                            {}, {{"SH", size}, {"SW", size}, {"BH", box.height()}, {"BW", box.width()}});
  return {take(out, "window", "window"), take(out, "window", "object_mask"), take(out, "window", "window_mask"),
          take(out, "window", "alpha")};
}

std::vector<CroppedWindow> Encoder::crop_photo(const Picture& photo, const Region& region,
                                               const std::optional<ReferencePicture>& reference) const {
  const Manifest& manifest = bundle_->manifest();
  const bool needs_reference =
      std::find(manifest.scene.begin(), manifest.scene.end(), "reference") != manifest.scene.end();
  std::vector<CroppedWindow> windows;
  for (const Region& part : split_region(region, manifest.mask.margin, manifest.resolution)) {
    const Box box = photo_box(part.edit, manifest.mask.margin, part.rim);
    CroppedWindow window{box, cut(photo.pixels, box), view(photo, part, box, manifest.resolution), {}, {}};
    const Picture& picture = reference ? reference->picture : photo;
    const Array& shown = reference ? reference->mask : part.object;
    if (needs_reference && reference)
      window.reference =
          view(picture, whole_region(shown), reference_box(shown, part.object, box), manifest.resolution);
    if (manifest.identity)
      window.close_up = view(picture, whole_region(shown), identity_box(shown), manifest.identity->size);
    windows.push_back(std::move(window));
  }
  return windows;
}

Scene Encoder::encode_window(const CroppedWindow& window) const {
  const Manifest& manifest = bundle_->manifest();
  ArrayViews inputs = {{"photo", batch_of_one(window.images.pixels)}, {"mask", batch_of_one(window.images.edit_mask)}};
  if (std::find(manifest.scene.begin(), manifest.scene.end(), "reference") != manifest.scene.end()) {
    const WindowImages& seen = window.reference ? *window.reference : window.images;
    inputs["reference"] = batch_of_one(seen.pixels);
    inputs["reference_mask"] = batch_of_one(seen.object_mask);
  }
  const auto out = encode("scene", inputs);
  Scene scene;
  scene.background = first_of(*out, "scene", "background");
  scene.keep = first_of(*out, "scene", "keep");
  scene.scene = out->count("scene") != 0 ? first_of(*out, "scene", "scene")
                                         : make_array<float>({0, manifest.latent_side(), manifest.latent_side()});
  if (window.close_up) {
    const auto found = encode("identity", {{"reference", batch_of_one(window.close_up->pixels)},
                                           {"reference_mask", batch_of_one(window.close_up->object_mask)}});
    scene.identity = first_of(*found, "identity", "identity");
    scene.null_identity = first_of(*found, "identity", "null_identity");
  }
  return scene;
}

Array Encoder::decode_roundtrip(const Scene& scene) const {
  return first_of(*encode("decode", {{"latent", batch_of_one(scene.background)}}), "decode", "image");
}

EncodedPrompt Encoder::encode_prompt(const std::string& prompt) const {
  const std::vector<std::int64_t> tokens = tokenize(prompt);
  Array ids = make_array<std::int64_t>({1, static_cast<std::int64_t>(tokens.size())});
  std::copy(tokens.begin(), tokens.end(), ids.as<std::int64_t>());
  const auto out = encode("prompt", {{"ids", ids.view()}});
  EncodedPrompt encoded;
  encoded.text = first_of(*out, "prompt", "text");
  if (out->count("pooled") != 0) encoded.pooled = first_of(*out, "prompt", "pooled");
  return encoded;
}

std::shared_ptr<const Tokenizer> Encoder::tokenizer() const {
  const std::lock_guard<std::mutex> lock(tokenizer_mutex_);
  if (tokenizer_ == nullptr) {
    const TextRules& rules = bundle_->manifest().text;
    const Bytes json = bundle_->read(rules.tokenizer);
    tokenizer_ = std::make_shared<const Tokenizer>(std::string_view(json.data(), json.size()), rules);
  }
  return tokenizer_;
}

// Runs a graph, or takes its outputs from an earlier run on the same bytes.
std::shared_ptr<const Arrays> Encoder::encode(const std::string& graph, const ArrayViews& inputs) const {
  const std::string key = content_key(graph, inputs);
  if (auto known = cache_.find(key)) return known;
  const auto outputs = std::make_shared<const Arrays>(engines_.run(graph, inputs));
  for (const auto& [name, array] : *outputs) check_finite(graph, name, array);
  cache_.put(key, outputs);
  return outputs;
}

Array take(Arrays& outputs, const std::string& graph, const std::string& name) {
  const auto found = outputs.find(name);
  if (found == outputs.end())
    throw EngineError("the graph " + text::python_repr(graph) + " gives no " + name, "an output of that name",
                      "export the bundle again");
  return std::move(found->second);
}

Array first_of(const Arrays& outputs, const std::string& graph, const std::string& name) {
  const auto found = outputs.find(name);
  if (found == outputs.end() || found->second.shape().empty() || found->second.shape()[0] < 1) {
    throw EngineError("the graph " + text::python_repr(graph) + " gives no " + name, "an output of that name",
                      "export the bundle again");
  }
  const Array& whole = found->second;
  Array part(whole.dtype(), {whole.shape().begin() + 1, whole.shape().end()});
  if (part.bytes() > 0) std::memcpy(part.as<unsigned char>(), whole.as<unsigned char>(), part.bytes());
  return part;
}

void check_finite(const std::string& graph, const std::string& name, const Array& array) {
  if (array.dtype() != DType::float32) return;
  const float* values = array.as<float>();
  if (std::all_of(values, values + array.count(), [](float value) { return std::isfinite(value); })) return;
  throw EngineError(
      "the graph " + text::python_repr(graph) + " gave numbers that are not finite in " + text::python_repr(name),
      "finite numbers", "export the bundle in a higher precision, and check its weights");
}

}  // namespace alterbute
