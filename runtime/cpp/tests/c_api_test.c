/* The C ABI from C: an edit, its background, the same bytes for the same seed, 16 bits, profiles, cancelling, and what
 * errors say. */
#include <alterbute/alterbute.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 96, HEIGHT = 80 };

static int failures = 0;
static uint8_t photo_pixels[HEIGHT][WIDTH][3], mask_pixels[HEIGHT][WIDTH];
static uint16_t wide_pixels[HEIGHT][WIDTH][3], wide_mask[HEIGHT][WIDTH];

static void expect(int is_true, const char* promise) {
  if (is_true) return;
  ++failures;
  fprintf(stderr, "FAILED: %s\n", promise);
}

static void draw_pictures(void) {
  for (int y = 0; y < HEIGHT; ++y) {
    for (int x = 0; x < WIDTH; ++x) {
      photo_pixels[y][x][0] = (uint8_t)(x * 2);
      photo_pixels[y][x][1] = (uint8_t)(y * 3);
      photo_pixels[y][x][2] = (uint8_t)((x ^ y) * 2);
      mask_pixels[y][x] = x > 30 && x < 60 && y > 20 && y < 55 ? 255 : 0;
      for (int channel = 0; channel < 3; ++channel)
        wide_pixels[y][x][channel] = (uint16_t)(photo_pixels[y][x][channel] * 256 + (x * 7 + y * 31 + channel) % 256);
      wide_mask[y][x] = (uint16_t)(mask_pixels[y][x] * 257);
    }
  }
}

struct told {
  int steps, cancel_after;
};

static void on_progress(void* user, int32_t image, int32_t images, int32_t step, int32_t steps) {
  struct told* told = user;
  (void)image, (void)images, (void)step, (void)steps;
  ++told->steps;
}

static int on_cancel(void* user) {
  struct told* told = user;
  return told->steps >= told->cancel_after;
}

static void expect_refusal(alterbute_error* error, alterbute_error_kind kind, const char* param, const char* promise) {
  expect(error != NULL && alterbute_error_get_kind(error) == kind, promise);
  if (error != NULL) {
    expect(strcmp(alterbute_error_param(error), param) == 0, promise);
    expect(strstr(alterbute_error_message(error), alterbute_error_seen(error)) != NULL,
           "the message tells what was seen");
    expect(strstr(alterbute_error_message(error), alterbute_error_fix(error)) != NULL, "the message tells what to do");
  }
  alterbute_error_free(error);
}

/* A photo and a mask of 16 bits: the result has 16 bits, and the photo's where nothing was edited. */
static void edit_16_bits(const alterbute_editor* editor) {
  alterbute_error* error = NULL;
  alterbute_image photo = {(const uint8_t*)wide_pixels, WIDTH, HEIGHT, 3, 0},
                  mask = {(const uint8_t*)wide_mask, WIDTH, HEIGHT, 1, WIDTH * 2};
  alterbute_subject_options options;
  alterbute_subject_options_init(&options);
  expect(options.photo_bits == 8 && options.protect_bits == 8 && options.photo_profile == NULL,
         "pictures have 8 bits and no profile at first");
  options.photo_bits = options.mask_bits = 16;
  alterbute_subject* subject = alterbute_prepare(editor, &photo, &mask, &options, &error);
  expect(subject != NULL && error == NULL, "a photo of 16 bits is prepared");
  if (subject == NULL) return;
  alterbute_request request;
  alterbute_request_init(&request);
  request.prompt = "color: red";
  request.steps = 2;
  alterbute_results* results = alterbute_edit(subject, &request, 1, NULL, &error);
  expect(results != NULL && alterbute_result_bits(results, 0) == 16, "a photo of 16 bits gives a result of 16 bits");
  if (results != NULL) {
    alterbute_image image = alterbute_result_image(results, 0), alpha = alterbute_result_alpha(results, 0);
    int touched = 0, spoilt = 0;
    for (int k = 0; k < WIDTH * HEIGHT; ++k) {
      int differs = memcmp(image.pixels + 6 * k, (const uint8_t*)wide_pixels + 6 * k, 6) != 0;
      touched += differs;
      spoilt += differs && alpha.pixels[k] == 0;
    }
    expect(touched > 0 && spoilt == 0, "where alpha is 0 the photo of 16 bits is as it was");
  }
  alterbute_results_free(results);
  request.detail = ALTERBUTE_DETAIL_MODEL;
  expect(alterbute_edit(subject, &request, 1, NULL, &error) == NULL, "the model's detail has 8 bits");
  expect_refusal(error, ALTERBUTE_INPUT_ERROR, "detail", "its parameter is named");
  alterbute_subject_free(subject);
  options.photo_bits = 12;
  expect(alterbute_prepare(editor, &photo, &mask, &options, &error) == NULL, "12 bits are refused");
  expect_refusal(error, ALTERBUTE_INPUT_ERROR, "photo", "its parameter is named");
}

/* A profile reaches the library, and is not read where the numbers are sRGB's. */
static void prepare_profiles(const alterbute_editor* editor, const alterbute_image* photo,
                             const alterbute_image* mask) {
  alterbute_error* error = NULL;
  alterbute_subject_options options;
  alterbute_subject_options_init(&options);
  options.reference = photo;
  for (int of_reference = 0; of_reference < 2; ++of_reference) {
    options.photo_profile = of_reference ? NULL : "no profile";
    options.reference_profile = of_reference ? "no profile" : NULL;
    options.photo_profile_size = options.reference_profile_size = 10;
    options.color = ALTERBUTE_COLOR_CONVERT;
    expect(alterbute_prepare(editor, photo, mask, &options, &error) == NULL, "what is no profile is refused");
    expect_refusal(error, ALTERBUTE_INPUT_ERROR, of_reference ? "reference" : "photo", "its parameter is named");
    options.color = ALTERBUTE_COLOR_AS_SRGB;
    alterbute_subject* subject = alterbute_prepare(editor, photo, mask, &options, &error);
    expect(subject != NULL && error == NULL, "a profile is not read where the numbers are sRGB's");
    alterbute_subject_free(subject);
  }
  /* What an older caller's structure has ends before the depths. */
  options.photo_profile = "no profile";
  options.photo_bits = 16;
  options.color = ALTERBUTE_COLOR_CONVERT;
  options.size = offsetof(alterbute_subject_options, photo_bits);
  alterbute_subject* subject = alterbute_prepare(editor, photo, mask, &options, &error);
  expect(subject != NULL && error == NULL, "shorter options of an older caller work");
  alterbute_subject_free(subject);
}

int main(void) {
  const char* bundle = getenv("ALTERBUTE_TEST_BUNDLE");
  if (bundle == NULL) {
    puts("skipped: ALTERBUTE_TEST_BUNDLE names no bundle");
    return 77;
  }
  draw_pictures();
  alterbute_error* error = NULL;
  expect(alterbute_open("/no/such/bundle", NULL, &error) == NULL, "a bundle that is not there is refused");
  expect_refusal(error, ALTERBUTE_BUNDLE_ERROR, "", "it is a bundle error");
  alterbute_options options;
  alterbute_options_init(&options);
  options.device = "abacus";
  expect(alterbute_open(bundle, &options, &error) == NULL, "an unknown device is refused");
  expect_refusal(error, ALTERBUTE_INPUT_ERROR, "device", "it is an input error");
  expect(alterbute_open(bundle, &options, NULL) == NULL, "a caller may have no use for the error");
  expect(alterbute_open_on_stream(bundle, &options, NULL, &error) == NULL, "a stream changes nothing of that");
  expect(error != NULL && !alterbute_error_is_fatal(error), "a wrong option loses no device");
  alterbute_error_free(error);

  alterbute_editor* editor = alterbute_open(bundle, NULL, &error);
  if (editor == NULL) {
    fprintf(stderr, "FAILED: %s\n", alterbute_error_message(error));
    alterbute_error_free(error);
    return 1;
  }
  expect(alterbute_load(editor, &error) == 1 && error == NULL, "a sound bundle loads");
  expect(alterbute_warm_up(editor, &error) == 1 && error == NULL, "there is nothing to capture on the CPU");
  expect(alterbute_verify(bundle, NULL, &error) == 1 && error == NULL, "a sound bundle verifies");

  alterbute_image photo = {&photo_pixels[0][0][0], WIDTH, HEIGHT, 3, 0},
                  mask = {&mask_pixels[0][0], WIDTH, HEIGHT, 1, 0};
  alterbute_image small = {&mask_pixels[0][0], WIDTH, HEIGHT - 10, 1, 0};
  expect(alterbute_prepare(editor, &photo, &small, NULL, &error) == NULL, "a mask of another size is refused");
  expect_refusal(error, ALTERBUTE_INPUT_ERROR, "mask", "its parameter is named");
  expect(alterbute_prepare(editor, &photo, NULL, NULL, &error) == NULL, "a missing mask is refused");
  expect_refusal(error, ALTERBUTE_INPUT_ERROR, "mask", "its parameter is named");

  alterbute_subject* subject = alterbute_prepare(editor, &photo, &mask, NULL, &error);
  expect(subject != NULL && error == NULL, "a subject is prepared");
  alterbute_request requests[2];
  for (int k = 0; k < 2; ++k) {
    alterbute_request_init(&requests[k]);
    requests[k].prompt = "color: red";
    requests[k].seed = 7;
    requests[k].steps = 3;
  }
  struct told told = {0, 1000};
  alterbute_callbacks callbacks = {on_progress, on_cancel, &told};
  alterbute_results* results = alterbute_edit(subject, requests, 2, &callbacks, &error);
  expect(results != NULL && alterbute_results_count(results) == 2, "two requests give two results");
  expect(told.steps == 6, "progress tells of every step");
  if (results != NULL) {
    alterbute_image first = alterbute_result_image(results, 0), second = alterbute_result_image(results, 1),
                    alpha = alterbute_result_alpha(results, 0);
    expect(first.width == WIDTH && first.height == HEIGHT && first.channels == 3 && alpha.channels == 1,
           "a result has the photo's size");
    expect(memcmp(first.pixels, second.pixels, sizeof photo_pixels) == 0, "the same seed gives the same bytes");
    int touched = 0, spoilt = 0;
    for (int k = 0; k < WIDTH * HEIGHT; ++k) {
      if (alpha.pixels[k] > 0)
        ++touched;
      else
        spoilt += memcmp(first.pixels + 3 * k, &photo_pixels[0][0][0] + 3 * k, 3) != 0;
    }
    expect(touched > 0 && spoilt == 0, "where alpha is 0 the photo is as it was");
    expect(alterbute_result_bits(results, 0) == 8, "a photo of 8 bits gives a result of 8 bits");
    expect(alterbute_result_seed(results, 0) == 7, "a result tells its seed");
    expect(strcmp(alterbute_result_warnings(results, 0), "") == 0, "known words give no warning");
  }
  alterbute_results_free(results);

  told.steps = 0, told.cancel_after = 2;
  expect(alterbute_edit(subject, requests, 1, &callbacks, &error) == NULL && told.steps == 2,
         "cancel stops before the next step");
  expect_refusal(error, ALTERBUTE_CANCELLED, "", "cancelling has a kind of its own");
  requests[0].guidance = 1e9;
  expect(alterbute_edit(subject, requests, 1, NULL, &error) == NULL, "guidance out of range is refused");
  expect_refusal(error, ALTERBUTE_INPUT_ERROR, "guidance", "its parameter is named");

  edit_16_bits(editor);
  prepare_profiles(editor, &photo, &mask);

  /* An editor may go before its subjects: they keep what they need. */
  alterbute_editor_free(editor);
  requests[0].guidance = requests[1].guidance;
  requests[0].size = offsetof(alterbute_request, guidance); /* as an older caller's structure would be */
  results = alterbute_edit(subject, requests, 1, NULL, &error);
  expect(results != NULL, "a shorter structure of an older caller works");
  alterbute_results_free(results);
  alterbute_subject_free(subject);
  alterbute_results_free(NULL);
  if (failures == 0) puts("ok");
  return failures == 0 ? 0 : 1;
}
