// What an embedder's program looks like to the compiler and the linker: both
// headers, an editor, and an error caught by its class.
#include <alterbute/alterbute.h>

#include <alterbute/alterbute.hpp>
#include <cstdio>

int main(int argc, char **argv) {
  try {
    const alterbute::Editor editor(argc > 1 ? argv[1] : "nowhere");
    std::printf("%s\n", editor.name().c_str());
  } catch (const alterbute::BundleError &fault) {
    std::printf("refused: %s\n", fault.what());
    return 3;
  }
  return 0;
}
