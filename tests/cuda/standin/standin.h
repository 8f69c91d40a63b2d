// What libcudart.so.13 of the stand-in has beside CUDA's functions, for its other libraries and for test programs.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum { STANDIN_ASKS = 0, STANDIN_LAUNCHES = 1, STANDIN_ALLOCATES = 2 };

// A call of cuBLAS or cuDNN; returns the CUDA error that it meets, 0 for success.
int standin_call(const char* name, void* stream, int kind, const char* arguments);

// Writes a line MARK into the log.
void standin_mark(const char* text);

// Sets faults in the form of STANDIN_FAULTS in place of the earlier ones, counted from now on.
void standin_arm(const char* faults);

// What is alive: device allocations, their bytes, pinned allocations, streams, events, graphs, executable graphs.
void standin_alive(long counts[7]);

#ifdef __cplusplus
}
#endif
