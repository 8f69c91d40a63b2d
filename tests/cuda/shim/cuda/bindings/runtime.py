"""`cuda.bindings.runtime` over the stand-in's libcudart: the functions that the product uses, by ctypes.

cuda-python's own module links CUDA statically and would look for a real driver. Each function returns a tuple that begins with
the error code, as cuda-python's do.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from typing import Any

_LIBRARY = ctypes.CDLL("libcudart.so.13")
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_UNSIGNED, _LONG, _FLOAT = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_float


class cudaMemcpyKind(enum.IntEnum):
    """Where a copy goes from and to."""

    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(enum.IntEnum):
    """Which unsafe calls of other threads a capture forbids."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaStreamCaptureStatus(enum.IntEnum):
    """Whether a stream is captured."""

    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


class cudaError_t(int):
    """An error code of the CUDA runtime; prints as cuda-python's does."""

    @property
    def name(self) -> str:
        """Name of the error, such as `cudaErrorMemoryAllocation`."""
        return str(cudaGetErrorName(self)[1], "ascii")

    def __repr__(self) -> str:
        return f"<cudaError_t.{self.name}: {int(self)}>"


def _wrap(
    name: str, outputs: tuple[Any, ...], inputs: tuple[Any, ...], *, results_last: bool = False
) -> Callable[..., tuple[Any, ...]]:
    """A function whose C parameters are results and then its arguments, or the other way round."""
    function = getattr(_LIBRARY, name)

    def call(*arguments: Any) -> tuple[Any, ...]:
        if len(arguments) != len(inputs):
            raise TypeError(f"{name} takes {len(inputs)} arguments, {len(arguments)} given")
        results = [kind() for kind in outputs]
        values = [
            kind(None if argument is None else int(argument)) for kind, argument in zip(inputs, arguments, strict=True)
        ]
        places = [ctypes.byref(result) for result in results]
        code = cudaError_t(function(*values, *places) if results_last else function(*places, *values))
        return (code, *(result.value or 0 for result in results))

    call.__name__ = name
    return call


cudaDeviceSynchronize = _wrap("cudaDeviceSynchronize", (), ())
cudaDriverGetVersion = _wrap("cudaDriverGetVersion", (_INT,), ())
cudaEventCreate = _wrap("cudaEventCreate", (_POINTER,), ())
cudaEventCreateWithFlags = _wrap("cudaEventCreateWithFlags", (_POINTER,), (_UNSIGNED,))
cudaEventDestroy = _wrap("cudaEventDestroy", (), (_POINTER,))
cudaEventElapsedTime = _wrap("cudaEventElapsedTime", (_FLOAT,), (_POINTER, _POINTER))
cudaEventQuery = _wrap("cudaEventQuery", (), (_POINTER,))
cudaEventRecord = _wrap("cudaEventRecord", (), (_POINTER, _POINTER))
cudaEventSynchronize = _wrap("cudaEventSynchronize", (), (_POINTER,))
cudaFree = _wrap("cudaFree", (), (_POINTER,))
cudaFreeHost = _wrap("cudaFreeHost", (), (_POINTER,))
cudaGetDevice = _wrap("cudaGetDevice", (_INT,), ())
cudaGetDeviceCount = _wrap("cudaGetDeviceCount", (_INT,), ())
cudaGetLastError = _wrap("cudaGetLastError", (), ())
cudaGraphDestroy = _wrap("cudaGraphDestroy", (), (_POINTER,))
cudaGraphExecDestroy = _wrap("cudaGraphExecDestroy", (), (_POINTER,))
cudaGraphInstantiate = _wrap("cudaGraphInstantiate", (_POINTER,), (_POINTER, _LONG))
cudaGraphLaunch = _wrap("cudaGraphLaunch", (), (_POINTER, _POINTER))
cudaHostAlloc = _wrap("cudaHostAlloc", (_POINTER,), (_SIZE, _UNSIGNED))
cudaMalloc = _wrap("cudaMalloc", (_POINTER,), (_SIZE,))
cudaMemGetInfo = _wrap("cudaMemGetInfo", (_SIZE, _SIZE), ())
cudaMemcpy = _wrap("cudaMemcpy", (), (_POINTER, _POINTER, _SIZE, _INT))
cudaMemcpyAsync = _wrap("cudaMemcpyAsync", (), (_POINTER, _POINTER, _SIZE, _INT, _POINTER))
cudaMemset = _wrap("cudaMemset", (), (_POINTER, _INT, _SIZE))
cudaMemsetAsync = _wrap("cudaMemsetAsync", (), (_POINTER, _INT, _SIZE, _POINTER))
cudaRuntimeGetVersion = _wrap("cudaRuntimeGetVersion", (_INT,), ())
cudaSetDevice = _wrap("cudaSetDevice", (), (_INT,))
cudaStreamBeginCapture = _wrap("cudaStreamBeginCapture", (), (_POINTER, _INT))
cudaStreamCreate = _wrap("cudaStreamCreate", (_POINTER,), ())
cudaStreamCreateWithFlags = _wrap("cudaStreamCreateWithFlags", (_POINTER,), (_UNSIGNED,))
cudaStreamDestroy = _wrap("cudaStreamDestroy", (), (_POINTER,))
cudaStreamEndCapture = _wrap("cudaStreamEndCapture", (_POINTER,), (_POINTER,), results_last=True)
cudaStreamIsCapturing = _wrap("cudaStreamIsCapturing", (_INT,), (_POINTER,), results_last=True)
cudaStreamQuery = _wrap("cudaStreamQuery", (), (_POINTER,))
cudaStreamSynchronize = _wrap("cudaStreamSynchronize", (), (_POINTER,))
cudaStreamWaitEvent = _wrap("cudaStreamWaitEvent", (), (_POINTER, _POINTER, _UNSIGNED))


def cudaThreadExchangeStreamCaptureMode(mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
    """Set the calling thread's capture mode and return the one before."""
    value = _INT(int(mode))
    code = cudaError_t(_LIBRARY.cudaThreadExchangeStreamCaptureMode(ctypes.byref(value)))
    return code, cudaStreamCaptureMode(value.value)


def cudaGetErrorName(error: int) -> tuple[Any, ...]:
    """Name of an error, as bytes."""
    return cudaError_t(0), _LIBRARY.cudaGetErrorName(int(error))


def cudaGetErrorString(error: int) -> tuple[Any, ...]:
    """Description of an error, as bytes."""
    return cudaError_t(0), _LIBRARY.cudaGetErrorString(int(error))


_LIBRARY.cudaGetErrorName.restype = _LIBRARY.cudaGetErrorString.restype = ctypes.c_char_p
