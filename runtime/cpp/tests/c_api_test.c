/* The C ABI from C: an edit, its background, the same bytes for the same seed, cancelling, and what errors say. */
#include <alterbute/alterbute.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 96, HEIGHT = 80 };

static int failures = 0;
static uint8_t photo_pixels[HEIGHT][WIDTH][3], mask_pixels[HEIGHT][WIDTH];

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

  alterbute_editor* editor = alterbute_open(bundle, NULL, &error);
  if (editor == NULL) {
    fprintf(stderr, "FAILED: %s\n", alterbute_error_message(error));
    alterbute_error_free(error);
    return 1;
  }
  expect(alterbute_load(editor, &error) == 1 && error == NULL, "a sound bundle loads");
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
