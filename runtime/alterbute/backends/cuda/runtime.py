"""CUDA through cuda-python's runtime bindings: memory, one stream, events and graphs; every return code is checked."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

import numpy as np

from alterbute.backends.base import Array
from alterbute.errors import DeviceError, EngineError

_MODULE: Final = "cuda.bindings.runtime"
# The context is lost after these errors: every later call fails with the same error, so the process must end. In the order of
# cudaError_t: illegal address, launch timeout and failure, hardware, instruction, alignment, address space, program
# counter, assertion, ECC, NVLink, and a device that is no longer there.
_FATAL: Final = frozenset({46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721})
_OUT_OF_MEMORY: Final = 2
_NON_BLOCKING_STREAM: Final = 1
_NO_TIMING: Final = 2

# ONNX Runtime's messages: "CUDA failure 700: an illegal memory access...", its arena's, and those of cuBLAS and cuDNN.
_CUDA_CODE: Final = re.compile(r"CUDA (?:failure|error) (\d+)")
_NO_MEMORY: Final = re.compile(
    r"out of memory|[Ff]ailed to allocate|memory of [0-9]+ is smaller|ALLOC_FAILED|cudaErrorMemoryAllocation|bad allocation"
)


class CudaError(Protocol):
    """`cudaError_t`."""

    def __int__(self) -> int: ...


class MemcpyKind(Protocol):
    """`cudaMemcpyKind`."""

    cudaMemcpyHostToDevice: object
    cudaMemcpyDeviceToHost: object


class CaptureMode(Protocol):
    """`cudaStreamCaptureMode`."""

    cudaStreamCaptureModeThreadLocal: object


class CudaApi(Protocol):
    """The functions of `cuda.bindings.runtime` that are used; each returns its error code first."""

    cudaMemcpyKind: MemcpyKind
    cudaStreamCaptureMode: CaptureMode

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]: ...
    def cudaMemGetInfo(self) -> tuple[Any, ...]: ...
    def cudaMalloc(self, size: int) -> tuple[Any, ...]: ...
    def cudaFree(self, devPtr: int) -> tuple[Any, ...]: ...
    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]: ...
    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]: ...
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: object, stream: object) -> tuple[Any, ...]: ...
    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: object) -> tuple[Any, ...]: ...
    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]: ...
    def cudaStreamDestroy(self, stream: object) -> tuple[Any, ...]: ...
    def cudaStreamSynchronize(self, stream: object) -> tuple[Any, ...]: ...
    def cudaStreamBeginCapture(self, stream: object, mode: object) -> tuple[Any, ...]: ...
    def cudaStreamEndCapture(self, stream: object) -> tuple[Any, ...]: ...
    def cudaGraphInstantiate(self, graph: object, flags: int) -> tuple[Any, ...]: ...
    def cudaGraphLaunch(self, graphExec: object, stream: object) -> tuple[Any, ...]: ...
    def cudaGraphDestroy(self, graph: object) -> tuple[Any, ...]: ...
    def cudaGraphExecDestroy(self, graphExec: object) -> tuple[Any, ...]: ...
    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]: ...
    def cudaEventDestroy(self, event: object) -> tuple[Any, ...]: ...
    def cudaEventRecord(self, event: object, stream: object) -> tuple[Any, ...]: ...
    def cudaEventSynchronize(self, event: object) -> tuple[Any, ...]: ...
    def cudaGetErrorName(self, error: object) -> tuple[Any, ...]: ...


def load_cuda(extra: str = "cuda") -> CudaApi:
    """Import cuda-python.

    Args:
        extra: The extra of alterbute that brings it for the caller, which the error names: `cuda`, `tensorrt` or `rtx`.

    Raises:
        EngineError: it is not installed, or does not load.
    """
    fix = f"run `pip install 'alterbute[{extra}]'`"
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        raise EngineError("cuda-python is not installed", "the package cuda-bindings", fix)
    try:
        return cast(CudaApi, importlib.import_module(_MODULE))
    except Exception as fault:
        raise EngineError(f"cuda-python does not load ({fault})", "the package cuda-bindings", fix) from fault


def no_memory(name: str, reason: str) -> DeviceError:
    """The error of a GPU, or of a host for pinned memory, whose memory is full; other work on it goes on."""
    if name == "cudaHostAlloc":
        return DeviceError(f"{name} found no memory on the host ({reason})", "free memory", "use fewer slots")
    return DeviceError(
        f"{name} found no memory on the GPU ({reason})", "free memory", "use fewer slots, or free the GPU"
    )


def free_all(*frees: Callable[[], object]) -> DeviceError | None:
    """Call every function, whatever the others raise; returns the first error but for the loss of the device, whose memory is gone."""
    faults = []
    for free in frees:
        try:
            free()
        except DeviceError as fault:
            if not fault.is_fatal:
                faults.append(fault)
    return faults[0] if faults else None


class Cuda:
    """One device and one stream on it; used by one thread, the one that made it. After a fatal error every call raises it again.

    Args:
        api: `cuda.bindings.runtime`.
        device: Index of the GPU.
    """

    def __init__(self, api: CudaApi, device: int = 0) -> None:
        self._api = api
        self._fatal = ""
        self._allocated: dict[int, str] = {}
        self.call("cudaSetDevice", device)
        (self.stream,) = self.call("cudaStreamCreateWithFlags", _NON_BLOCKING_STREAM)

    @property
    def handle(self) -> int:
        """The stream's handle as an integer."""
        return int(self.stream)

    @property
    def is_lost(self) -> bool:
        """Whether an earlier call found that the device is lost to this process."""
        return bool(self._fatal)

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """Call a function of the CUDA runtime and return what follows its error code.

        Raises:
            DeviceError: the call failed; fatal when the device's context is lost.
        """
        if self._fatal:
            raise self._lost()
        error, *values = getattr(self._api, name)(*arguments)
        if int(error):
            raise self._fault(name, error)
        return tuple(values)

    def check_library(self, name: str, message: str) -> None:
        """Find out whether the failure of an engine library is the device's.

        Args:
            name: What failed, for the error message.
            message: The library's message, which may hold the code of a CUDA error.

        Raises:
            DeviceError: the device is lost, or has no memory left.
        """
        self.call("cudaMemGetInfo")
        code = next((int(found) for found in _CUDA_CODE.findall(message)), 0)
        if code in _FATAL:
            self._fatal = f"CUDA error {code} in {name}"
            raise self._lost()
        if code == _OUT_OF_MEMORY or _NO_MEMORY.search(message):
            raise no_memory(name, "out of memory")

    def free_bytes(self) -> int:
        """Bytes of free memory on the device."""
        return int(self.call("cudaMemGetInfo")[0])

    def allocate(self, size: int) -> int:
        """Allocate zeroed device memory and return its address; at least one byte, so that an empty input has an address."""
        (address,) = self.call("cudaMalloc", max(size, 1))
        self._allocated[int(address)] = "cudaFree"
        self.call("cudaMemsetAsync", address, 0, max(size, 1), self.stream)
        return int(address)

    def free(self, address: int) -> None:
        """Free device memory."""
        self._allocated.pop(address)
        self.call("cudaFree", address)

    def allocate_pinned(self, size: int) -> Array:
        """Allocate pinned host memory, which the device reads and writes by itself, as [size] uint8."""
        (address,) = self.call("cudaHostAlloc", max(size, 1), 0)
        self._allocated[int(address)] = "cudaFreeHost"
        array: Array = np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(int(address)))
        return array

    def free_pinned(self, array: Array) -> None:
        """Free pinned memory; the array must not be used any more."""
        self._allocated.pop(array.ctypes.data)
        self.call("cudaFreeHost", array.ctypes.data)

    def upload(self, address: int, source: Array) -> None:
        """Enqueue a copy of a pinned array to a device address."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, self.stream)

    def download(self, target: Array, address: int) -> None:
        """Enqueue a copy of device memory into a pinned array."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, self.stream)

    def synchronize(self) -> None:
        """Wait until everything that was enqueued is done."""
        self.call("cudaStreamSynchronize", self.stream)

    def make_event(self) -> object:
        """Create an event for ordering, without timing."""
        return self.call("cudaEventCreateWithFlags", _NO_TIMING)[0]

    @contextmanager
    def capture(self) -> Iterator[list[object]]:
        """Capture what the block enqueues as a CUDA graph; the list holds the executable graph afterwards.

        Thread-local mode: another thread of the process may call CUDA meanwhile without invalidating the capture.
        """
        graphs: list[object] = []
        self.call(
            "cudaStreamBeginCapture", self.stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            yield graphs
        except BaseException:
            # The stream must leave capture mode whatever happened in it; a second failure here adds nothing.
            self._api.cudaStreamEndCapture(self.stream)
            raise
        (graph,) = self.call("cudaStreamEndCapture", self.stream)
        graphs.append(self.call("cudaGraphInstantiate", graph, 0)[0])
        self.call("cudaGraphDestroy", graph)

    def launch(self, graph: object) -> None:
        """Enqueue a captured graph."""
        self.call("cudaGraphLaunch", graph, self.stream)

    def close(self) -> None:
        """Free what is still allocated, such as by a part that ran out of memory half-way, and destroy the stream."""
        for address, free in self._allocated.items():
            self.call(free, address)
        self._allocated.clear()
        self.call("cudaStreamDestroy", self.stream)

    def _fault(self, name: str, error: Any) -> DeviceError:
        code = int(error)
        reply = self._api.cudaGetErrorName(error)
        error_name = reply[1] if len(reply) > 1 else str(code)
        label = error_name.decode() if isinstance(error_name, bytes) else str(error_name)
        if code == _OUT_OF_MEMORY:
            return no_memory(name, label)
        if code not in _FATAL:
            return DeviceError(f"{name} failed ({label})", "success", "see the log; report it if it happens again")
        self._fatal = f"{label} in {name}"
        return self._lost()

    def _lost(self) -> DeviceError:
        # A new one each time: an exception that is raised again and again grows a traceback of all threads that met it.
        return DeviceError(
            f"the GPU is lost to this process ({self._fatal})",
            "a healthy device",
            "restart the process",
            is_fatal=True,
        )
