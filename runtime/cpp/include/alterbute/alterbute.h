/* Alterbute's C ABI, for bindings of other languages. It has what alterbute.hpp has, in C's terms:
 *
 *   - every function that can fail takes an `alterbute_error **` and sets it when it returns NULL or 0; NULL will do;
 *   - every object that a function returns is freed by its own `_free`; freeing NULL does nothing;
 *   - text is UTF-8 and ends with a 0 byte; what an accessor returns lives as long as its object;
 *   - structures that are passed in start with their size: call the `_init` function, then set what you need;
 *   - any number of threads may use one editor or subject at once.
 */
#ifndef ALTERBUTE_H
#define ALTERBUTE_H

#include <stddef.h>
#include <stdint.h>

#include "alterbute/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct alterbute_editor alterbute_editor;
typedef struct alterbute_subject alterbute_subject;
typedef struct alterbute_results alterbute_results;
typedef struct alterbute_error alterbute_error;

typedef enum {
  ALTERBUTE_INPUT_ERROR = 1,  /* the request cannot be done as asked */
  ALTERBUTE_BUNDLE_ERROR = 2, /* the bundle is missing, damaged, altered or too new */
  ALTERBUTE_ENGINE_ERROR = 3, /* ONNX Runtime is missing, or cannot load or run a graph; or a GPU failed */
  ALTERBUTE_CANCELLED = 4,    /* the cancel callback returned non-zero */
  ALTERBUTE_OTHER_ERROR = 5   /* out of memory, or a fault of this library */
} alterbute_error_kind;

/* One printable line, and its parts. `param` and `code` are empty but for input errors. */
ALTERBUTE_API alterbute_error_kind alterbute_error_get_kind(const alterbute_error* error);
ALTERBUTE_API const char* alterbute_error_message(const alterbute_error* error);
ALTERBUTE_API const char* alterbute_error_seen(const alterbute_error* error);
ALTERBUTE_API const char* alterbute_error_expected(const alterbute_error* error);
ALTERBUTE_API const char* alterbute_error_fix(const alterbute_error* error);
ALTERBUTE_API const char* alterbute_error_param(const alterbute_error* error);
ALTERBUTE_API const char* alterbute_error_code(const alterbute_error* error);
/* 1 when the GPU is lost to this process: every later call fails, and a server should end and be started again. */
ALTERBUTE_API int alterbute_error_is_fatal(const alterbute_error* error);
ALTERBUTE_API void alterbute_error_free(alterbute_error* error);

/* Rows of pixels of 1 (grey), 3 (RGB) or 4 (RGBA) samples, `stride` bytes apart; stride 0: without gaps. A sample is a
 * byte, or an uint16 in the machine's byte order: of the pictures passed in, alterbute_subject_options tells which. */
typedef struct {
  const uint8_t* pixels;
  int32_t width, height, channels;
  size_t stride;
} alterbute_image;

typedef struct {
  size_t size;
  const char* onnxruntime; /* path of the library; NULL: $ALTERBUTE_ONNXRUNTIME, else as the system finds it */
  const char* device;      /* "cpu"; "cuda", or "cuda:1" for the GPU of that index; NULL: "cpu" */
  int32_t slots;           /* images of one call that are denoised together */
  int32_t threads;         /* CPU threads of the large graphs; 0: chosen */
  /* Files with an Ed25519 public key in base64; when there are any, one of them must have signed the bundle. NULL and 0 ask
   * for no check; a list with 0 entries, and an entry that is NULL or "", are errors. */
  const char* const* trust_keys;
  size_t num_trust_keys;
} alterbute_options;
ALTERBUTE_API void alterbute_options_init(alterbute_options* options);

typedef enum {
  ALTERBUTE_POLARITY_AUTO,
  ALTERBUTE_POLARITY_ALPHA,
  ALTERBUTE_POLARITY_WHITE,
  ALTERBUTE_POLARITY_BLACK,
  ALTERBUTE_POLARITY_OPAQUE
} alterbute_polarity;
typedef enum { ALTERBUTE_MASK_PRECISE, ALTERBUTE_MASK_BOX, ALTERBUTE_MASK_SOFT } alterbute_mask_kind;

/* What a picture with a profile means: its colours, which are converted to sRGB for the model and back; or its numbers,
 * read as sRGB as if it had no profile. */
typedef enum { ALTERBUTE_COLOR_CONVERT, ALTERBUTE_COLOR_AS_SRGB } alterbute_color;

/* Optional inputs beside photo and mask, and what the pictures are. */
typedef struct {
  size_t size;
  const alterbute_image *reference, *reference_mask, *protect;
  alterbute_polarity polarity;
  alterbute_mask_kind kind;
  int32_t dilate;         /* odd window pixels; 0: the bundle's */
  int32_t rim;            /* photo pixels around the mask that may change, too */
  const char* mask_value; /* the object's label in a label image: "0".."255" or "#rrggbb"; NULL: none */
  /* Bits of a sample of each picture: 8, which `_init` sets, or 16. */
  int32_t photo_bits, mask_bits, reference_bits, reference_mask_bits, protect_bits;
  /* The RGB ICC profiles of photo and reference, as their files have them; NULL: sRGB. */
  const void *photo_profile, *reference_profile;
  size_t photo_profile_size, reference_profile_size;
  alterbute_color color;
} alterbute_subject_options;
ALTERBUTE_API void alterbute_subject_options_init(alterbute_subject_options* options);

/* Where the object's detail comes from: the photo, through the edit's local colours, or the model's pixels. */
typedef enum { ALTERBUTE_DETAIL_AUTO, ALTERBUTE_DETAIL_PHOTO, ALTERBUTE_DETAIL_MODEL } alterbute_detail;

/* `_init` sets every number to "the bundle's default": -1 for seed (one is drawn) and reinject, 0 for steps, NaN else. */
typedef struct {
  size_t size;
  const char *prompt, *negative_prompt, *solver;
  int64_t seed;
  int32_t steps, count, reinject;
  double strength, guidance, identity_guidance, guidance_rescale, guidance_start, guidance_stop, identity_scale;
  alterbute_detail detail;
} alterbute_request;
ALTERBUTE_API void alterbute_request_init(alterbute_request* request);

/* Called on the thread of the call; `cancel` returns non-zero to stop. Either may be NULL. */
typedef struct {
  void (*progress)(void* user, int32_t image, int32_t images, int32_t step, int32_t steps);
  int (*cancel)(void* user);
  void* user;
} alterbute_callbacks;

/* `options` and `callbacks` may be NULL. */
ALTERBUTE_API alterbute_editor* alterbute_open(const char* bundle, const alterbute_options* options,
                                               alterbute_error** error);
/* The same on a cudaStream_t of the caller's, of the GPU that the options name: everything is enqueued there. It must outlive
 * the editor and its subjects. NULL: a stream of the editor's own. */
ALTERBUTE_API alterbute_editor* alterbute_open_on_stream(const char* bundle, const alterbute_options* options,
                                                         void* cuda_stream, alterbute_error** error);
ALTERBUTE_API void alterbute_editor_free(alterbute_editor* editor);
/* Waits until every graph is loaded; 1, or 0 and an error. */
ALTERBUTE_API int alterbute_load(const alterbute_editor* editor, alterbute_error** error);
/* The same; on a GPU runs every graph once and captures the step graph at every shape at which it is launched, in seconds:
 * no edit after it is the first to need a kernel or a capture. 1, or 0 and an error. */
ALTERBUTE_API int alterbute_warm_up(const alterbute_editor* editor, alterbute_error** error);
/* Hashes every file of a bundle folder; of the options only the keys count. 1, or 0 and an error. */
ALTERBUTE_API int alterbute_verify(const char* bundle, const alterbute_options* options, alterbute_error** error);

ALTERBUTE_API alterbute_subject* alterbute_prepare(const alterbute_editor* editor, const alterbute_image* photo,
                                                   const alterbute_image* mask,
                                                   const alterbute_subject_options* options, alterbute_error** error);
ALTERBUTE_API void alterbute_subject_free(alterbute_subject* subject);

/* `requests` edits of one subject, denoised together: each request's `count` results in a row. An image that fails costs
   no other one: check `alterbute_result_error` of each result. When no image was finished, NULL and the first one's error. */
ALTERBUTE_API alterbute_results* alterbute_edit(const alterbute_subject* subject, const alterbute_request* requests,
                                                size_t num_requests, const alterbute_callbacks* callbacks,
                                                alterbute_error** error);
ALTERBUTE_API void alterbute_results_free(alterbute_results* results);
ALTERBUTE_API size_t alterbute_results_count(const alterbute_results* results);
/* The edited photo, of the photo's depth and in its colour space, and how much of the edit each of its pixels got. Who
 * saves it attaches the photo's profile again. */
ALTERBUTE_API alterbute_image alterbute_result_image(const alterbute_results* results, size_t at);
/* Bits of a sample of the edited photo: the photo's, 8 or 16. */
ALTERBUTE_API int32_t alterbute_result_bits(const alterbute_results* results, size_t at);
ALTERBUTE_API alterbute_image alterbute_result_alpha(const alterbute_results* results, size_t at);
ALTERBUTE_API int64_t alterbute_result_seed(const alterbute_results* results, size_t at);
/* Lines for the user, each ending with a line feed; "" when there are none. */
ALTERBUTE_API const char* alterbute_result_warnings(const alterbute_results* results, size_t at);
/* Why this image failed, one line; its pictures have no pixels then. NULL for an image that was finished. */
ALTERBUTE_API const char* alterbute_result_error(const alterbute_results* results, size_t at);

#ifdef __cplusplus
}
#endif

#endif
