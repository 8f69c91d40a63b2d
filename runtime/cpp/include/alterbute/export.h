/* What the shared library shows to others; everything else in it is hidden. */
#ifndef ALTERBUTE_EXPORT_H
#define ALTERBUTE_EXPORT_H

#if defined(_WIN32) && defined(ALTERBUTE_BUILD)
#define ALTERBUTE_API __declspec(dllexport)
#elif defined(_WIN32)
#define ALTERBUTE_API __declspec(dllimport)
#else
#define ALTERBUTE_API __attribute__((visibility("default")))
#endif

#endif
