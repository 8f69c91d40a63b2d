// One editor under several threads: every thread's results are those that it would get alone, and errors stay in their
// thread.
#include <alterbute/alterbute.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

struct Pictures {
  alterbute::Image photo, mask;
};

Pictures draw(int number) {
  const int width = 64 + 16 * number, height = 72;
  Pictures drawn;
  drawn.photo = {std::vector<std::uint8_t>(static_cast<std::size_t>(width) * height * 3), width, height, 3};
  drawn.mask = {std::vector<std::uint8_t>(static_cast<std::size_t>(width) * height), width, height, 1};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const auto at = static_cast<std::size_t>(y * width + x);
      for (int channel = 0; channel < 3; ++channel)
        drawn.photo.pixels[3 * at + static_cast<std::size_t>(channel)] =
            static_cast<std::uint8_t>(x * (channel + 1) + y * (number + 2));
      drawn.mask.pixels[at] = (x - 30) * (x - 30) + (y - 35) * (y - 35) < 400 ? 255 : 0;
    }
  }
  return drawn;
}

alterbute::Request request_of(int number) {
  alterbute::Request request;
  request.prompt = number % 2 == 0 ? "color: red" : "color: blue";
  request.seed = number;
  request.steps = 2 + number % 3;
  request.count = 1 + number % 2;
  return request;
}

std::vector<alterbute::Result> edit(const alterbute::Editor& editor, int number) {
  const Pictures drawn = draw(number);
  return editor.prepare(drawn.photo.view(), drawn.mask.view()).edit_many({request_of(number)});
}

bool are_equal(const std::vector<alterbute::Result>& a, const std::vector<alterbute::Result>& b) {
  bool equal = a.size() == b.size();
  for (std::size_t k = 0; equal && k < a.size(); ++k)
    equal = a[k].image.pixels == b[k].image.pixels && a[k].alpha.pixels == b[k].alpha.pixels;
  return equal;
}

}  // namespace

int main() {
  const char* bundle = std::getenv("ALTERBUTE_TEST_BUNDLE");
  if (bundle == nullptr) {
    std::puts("skipped: ALTERBUTE_TEST_BUNDLE names no bundle");
    return 77;
  }
  constexpr int kThreads = 4, kTurns = 3;
  std::vector<std::vector<alterbute::Result>> alone;
  {
    const alterbute::Editor editor(bundle);
    for (int number = 0; number < kThreads; ++number) alone.push_back(edit(editor, number));
  }
  std::atomic<int> failures{0};
  const auto fail = [&](const char* promise, int number) {
    ++failures;
    std::fprintf(stderr, "FAILED in thread %d: %s\n", number, promise);
  };
  const alterbute::Editor editor(bundle);  // still loading when the threads start
  std::vector<std::thread> threads;
  for (int number = 0; number < kThreads; ++number) {
    threads.emplace_back([&, number] {
      const alterbute::Editor mine = editor;
      for (int turn = 0; turn < kTurns; ++turn) {
        const int which = (number + turn) % kThreads;
        if (!are_equal(edit(mine, which), alone[static_cast<std::size_t>(which)]))
          fail("results are those of a single thread", number);
        alterbute::Request wrong = request_of(number);
        wrong.solver = "guess";
        try {
          const Pictures drawn = draw(number);
          mine.edit(drawn.photo.view(), drawn.mask.view(), wrong);
          fail("an unknown solver is refused", number);
        } catch (const alterbute::InputError& fault) {
          if (fault.param() != "solver") fail("the error names the solver", number);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failures == 0) std::puts("ok");
  return failures == 0 ? 0 : 1;
}
