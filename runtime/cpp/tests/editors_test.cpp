// Several editors of one process on a GPU, through the C ABI: each opens, captures and edits on a thread of the
// caller's while the others do, and none disturbs another's capture.
#include <alterbute/alterbute.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int kEditors = 3, kTurns = 2, kWidth = 80, kHeight = 72;

std::atomic<int> failures{0};

bool is_sound(const void* made, alterbute_error* error, const char* what) {
  if (made != nullptr) return true;
  ++failures;
  std::fprintf(stderr, "FAILED to %s: %s\n", what, error == nullptr ? "no error" : alterbute_error_message(error));
  alterbute_error_free(error);
  return false;
}

void edit(const alterbute_editor* editor, int seed) {
  std::vector<std::uint8_t> pixels(kWidth * kHeight * 3), marks(kWidth * kHeight);
  for (std::size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<std::uint8_t>(at * 7);
  for (int y = 20; y < 50; ++y)
    for (int x = 20; x < 50; ++x) marks[static_cast<std::size_t>(y * kWidth + x)] = 255;
  const alterbute_image photo = {pixels.data(), kWidth, kHeight, 3, 0}, mask = {marks.data(), kWidth, kHeight, 1, 0};
  alterbute_error* error = nullptr;
  alterbute_subject* subject = alterbute_prepare(editor, &photo, &mask, nullptr, &error);
  if (!is_sound(subject, error, "prepare")) return;
  alterbute_request request;
  alterbute_request_init(&request);
  request.prompt = "color: red";
  request.seed = seed;
  request.steps = 3;
  alterbute_results* results = alterbute_edit(subject, &request, 1, nullptr, &error);
  is_sound(results, error, "edit");
  alterbute_results_free(results);
  alterbute_subject_free(subject);
}

void serve(const char* bundle, int number) {
  alterbute_options options;
  alterbute_options_init(&options);
  options.device = "cuda";
  alterbute_error* error = nullptr;
  alterbute_editor* editor = alterbute_open_on_stream(bundle, &options, nullptr, &error);
  if (!is_sound(editor, error, "open")) return;
  // Half of them capture in their edits instead.
  if (number % 2 == 0 && alterbute_warm_up(editor, &error) == 0) is_sound(nullptr, error, "warm up");
  for (int turn = 0; turn < kTurns; ++turn) edit(editor, turn);
  alterbute_editor_free(editor);
}

}  // namespace

int main() {
  const char* bundle = std::getenv("ALTERBUTE_TEST_CUDA_BUNDLE");
  if (bundle == nullptr) {
    std::puts("skipped: ALTERBUTE_TEST_CUDA_BUNDLE names no bundle");
    return 77;
  }
  std::vector<std::thread> threads;
  for (int number = 0; number < kEditors; ++number) threads.emplace_back(serve, bundle, number);
  for (std::thread& thread : threads) thread.join();
  if (failures == 0) std::puts("ok");
  return failures == 0 ? 0 : 1;
}
