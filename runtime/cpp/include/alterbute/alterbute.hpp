// Alterbute from C++: changes an object's colour, texture, material or shape, and no pixel outside its mask.
//
//     alterbute::Editor editor("engines/demo");
//     alterbute::Result result = editor.edit(photo, mask, {"color: red"});
//
// An Editor and a Subject may be used by any number of threads at once. No pointer into the caller's
// memory is kept after a call returns. Every call may throw an alterbute::Error (errors.hpp), or std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "alterbute/errors.hpp"
#include "alterbute/export.h"

namespace alterbute {

// A picture in the caller's memory: rows of pixels of 1 (grey), 3 (RGB) or 4 (RGBA) samples.
struct ImageView {
  const std::uint8_t* pixels = nullptr;
  int width = 0, height = 0, channels = 0;
  std::size_t stride = 0;  // bytes from row to row; 0: rows follow each other without a gap
  int bits = 8;            // of a sample: 8, or 16 for uint16 in the machine's byte order, at any address
  // The RGB ICC profile of a photo or reference, as its file has it; null is sRGB. Masks have none.
  const void* profile = nullptr;
  std::size_t profile_size = 0;  // bytes
};

// A picture that owns its memory, without gaps.
struct Image {
  std::vector<std::uint8_t> pixels;  // of 16 bits: two bytes a sample, uint16 in the machine's byte order
  int width = 0, height = 0, channels = 0;
  int bits = 8;

  // Without a profile.
  ImageView view() const { return {pixels.data(), width, height, channels, 0, bits}; }
};

// What a picture with a profile means. `convert`: the model sees its colours in sRGB, and the edit is converted back to
// its own space. `as_srgb`: its numbers are read as sRGB, as if it had no profile.
enum class Color { convert, as_srgb };

// Which of a mask's pixels it marks: its transparent, its light, its dark or its opaque ones. `automatic` looks at the
// mask: white on black, a colour on another one, paint or a cut-out on a transparent layer, an erased object; what is
// ambiguous is refused.
enum class Polarity { automatic, alpha, white, black, opaque };

// `precise`: the mask is the object, and its grey edges are coverage. `box`: the box around it may change, for edits of
// shape. `soft`: its grey levels are the share of the edit that each pixel gets, and the model's mask is not dilated.
enum class MaskKind { precise, box, soft };

// How masks are read, and an optional second mask of pixels to protect.
struct MaskOptions {
  Polarity polarity = Polarity::automatic;
  MaskKind kind = MaskKind::precise;
  std::optional<ImageView> protect;  // what stands in front of the object: never painted, and cut out of the object
  std::optional<int> dilate;  // side of the square by which the model's mask grows, in window pixels, odd; else the bundle's
  int rim = 0;                // photo pixels around the mask that may change, too, 0..256
  std::string value;          // the object's label in a label image: a level "0".."255", or a colour "#rrggbb"
};

// The picture whose object gives the identity, and its mask; without a mask its opaque part, or all of it.
struct Reference {
  ImageView picture;
  std::optional<ImageView> mask;
};

// Where the object's detail comes from. `photo`: the edit's local colours are applied to the photo's own pixels.
// `model`: the model's pixels. `automatic` is `photo`, but for box masks, references and edits of shape.
enum class Detail { automatic, photo, model };

// One prompt for one subject. What is not set takes the bundle's default.
struct Request {
  std::string prompt;           // UTF-8, such as "color: red; material: metal"
  std::string negative_prompt;  // what text guidance pushes away from
  std::optional<std::int64_t>
      seed;  // 0..2^63-1, the same seed gives the same bytes; else one is drawn, which the result reports
  std::optional<int> steps;
  std::optional<std::string> solver;
  std::optional<double> strength;           // above 0 to 1: 1 starts from noise alone, less from the photo (SDEdit)
  std::optional<double> guidance;           // scale of text guidance; 1 turns it off and saves a UNet row
  std::optional<double> identity_guidance;  // scale of identity guidance, for bundles that were trained for it
  std::optional<double> guidance_rescale;   // 0..1: how far guidance is pulled back to the contrast of the prompt alone
  std::optional<std::pair<double, double>> guidance_interval;  // shares of the steps between which guidance is on
  double identity_scale = 1;                                   // weight of the reference's identity, 0..10
  std::optional<bool> reinject;  // whether the photo's latent is put back outside the mask after every step
  Detail detail = Detail::automatic;
  int count = 1;                 // images to make; they differ in their noise only
};

// One UNet step of one image is done: image 0..images-1 of the call, step 1..steps of that image.
struct Progress {
  int image, images, step, steps;
};

// Called on the thread of the call. An exception that they throw ends the call and reaches the caller.
struct Callbacks {
  std::function<void(const Progress&)> progress;  // after every step
  std::function<bool()> cancel;                   // before every step; true ends the call with Cancelled
};

// Seconds by stage. What was cached costs nothing; images that shared launches each count the whole time that they were
// in the lane. `engine` is the share of the call's stages that was spent inside ONNX Runtime.
struct Timings {
  double window = 0, encode = 0, steps = 0, decode = 0, paste = 0, engine = 0;
};

struct Result {
  // The photo at its own size and depth and in its own colour space, RGB or RGBA; where `alpha` is 0 it is the photo's,
  // bit for bit. It has no profile: who saves it attaches the photo's again.
  Image image;
  Image alpha;            // one channel: how much of the edit each pixel got, 0 = untouched
  std::int64_t seed = 0;  // the same seed and `index` give the same bytes
  int index = 0;          // which image of its request this is
  Detail detail = Detail::photo;    // where the object's detail comes from: `photo` or `model`
  double detail_threshold = 0;      // residual in [0,1] from which the model's pixels were added; -1 for `model`
  Timings timings;
  std::vector<std::string> warnings;  // lines for the user, such as words that the bundle was not trained on
};

// Some images of a call failed while others were finished. Both vectors have one entry per image, in the order of the
// call; where `faults()[k]` is set, `results()[k]` is empty, and the other way round.
class ALTERBUTE_API PartialEditError : public EngineError {
 public:
  PartialEditError(std::vector<std::optional<Result>> results, std::vector<std::optional<EngineError>> faults);
  ~PartialEditError() override;
  const std::vector<std::optional<Result>>& results() const noexcept { return *results_; }
  const std::vector<std::optional<EngineError>>& faults() const noexcept { return *faults_; }

 private:
  // Shared, because an exception is copied when it is thrown, and a copy must not fail.
  std::shared_ptr<const std::vector<std::optional<Result>>> results_;
  std::shared_ptr<const std::vector<std::optional<EngineError>>> faults_;
};

struct EditorOptions {
  // Path of the ONNX Runtime library; empty: $ALTERBUTE_ONNXRUNTIME, else libonnxruntime.so.1 as the system finds it.
  std::string onnxruntime;
  // "cpu"; or "cuda" or "cuda:1" for ONNX Runtime's CUDA provider on the first GPU, or on the one of that index. The
  // image graphs run on the CPU in either case.
  std::string device = "cpu";
  // Files with an Ed25519 public key in base64; when there are any, one of them must have signed the bundle. An empty list
  // asks for no check, and cannot be told from one that came out empty: look at it before you pass it. An empty path is an
  // error.
  std::vector<std::string> trust_keys;
  int slots = 4;    // images of one call that are denoised together; it changes speed and memory, on the CPU never a result
  int threads = 0;  // CPU threads of the large graphs; 0: the most with which a result does not depend on its launch
  // A cudaStream_t of that GPU on which everything is enqueued; it must outlive the editor and its subjects. Null: a
  // stream of the editor's own.
  void* cuda_stream = nullptr;
  // On a GPU: launch the step graph at one shape, and run deterministic graphs only, so that an image has the same bytes
  // alone and beside others; slower. The CPU does so anyway.
  bool exact = false;
};

class Subject;

// A bundle, ready to edit photos. Cheap to copy: copies share engines and caches.
class ALTERBUTE_API Editor {
 public:
  // Opens a bundle folder: manifest and file list are checked now; graphs load in the background, each from bytes that
  // were hashed after they were read. Throws BundleError, EngineError (no ONNX Runtime) or InputError (a bad option).
  explicit Editor(const std::string& bundle, const EditorOptions& options = {});

  // Waits until every graph is loaded, and throws what went wrong; for a server that checks this before its first
  // request.
  void load() const;

  // Waits as `load` does; on a GPU runs every graph once and captures the step graph at every shape at which it is
  // launched, in seconds: no edit after it is the first to need a kernel or a capture.
  void warm_up() const;

  // Encodes a photo, once for all its edits. The mask has the photo's size; without pixels, it is the opaque part of a
  // photo with transparency. Several distant objects are edited each in a window of its own.
  Subject prepare(const ImageView& photo, const ImageView& mask,
                  const std::optional<Reference>& reference = std::nullopt, const MaskOptions& options = {},
                  Color color = Color::convert) const;

  // Prepares a subject and edits it once; request.count must be 1.
  Result edit(const ImageView& photo, const ImageView& mask, const Request& request, const Callbacks& callbacks = {},
              const std::optional<Reference>& reference = std::nullopt, const MaskOptions& options = {},
              Color color = Color::convert) const;

  // The bundle's name, and the solvers that it has.
  std::string name() const;
  std::vector<std::string> solvers() const;

 private:
  friend class Subject;
  struct State;
  std::shared_ptr<const State> state_;
};

// A photo and its object, encoded. Its edits run only steps, decode and paste. Cheap to copy.
class ALTERBUTE_API Subject {
 public:
  // One edit; request.count must be 1.
  Result edit(const Request& request, const Callbacks& callbacks = {}) const;

  // Several edits, denoised together; each gives the bytes that it would give alone. Results are in the order of the
  // requests, each request's `count` images in a row. Throws PartialEditError: some images failed and others were
  // finished; EngineError: no image was finished.
  std::vector<Result> edit_many(const std::vector<Request>& requests, const Callbacks& callbacks = {}) const;

 private:
  friend class Editor;
  struct State;
  explicit Subject(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

// Checks a bundle folder and hashes every file of it, in constant memory; trust_keys as in EditorOptions. Throws
// BundleError.
ALTERBUTE_API void verify_bundle(const std::string& bundle, const std::vector<std::string>& trust_keys = {});

}  // namespace alterbute
