"""Small CUDA programs that keep or break a rule, for the test of the stand-in itself. Each returns its error codes."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from tests.cuda.control import arm

_MODES = {"global": 0, "thread": 1, "relaxed": 2}
_NON_BLOCKING = 1
_UPLOAD, _DOWNLOAD = 1, 2


def _cuda() -> Any:
    from cuda.bindings import runtime

    return runtime


def _in_thread(function: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def allocate_in_capture(mode: str, same_thread: bool) -> list[int]:
    """Error of an allocation during a capture, and of the capture's end."""
    cuda = _cuda()
    _, stream = cuda.cudaStreamCreateWithFlags(_NON_BLOCKING)
    cuda.cudaStreamBeginCapture(stream, _MODES[mode])

    def allocate() -> int:
        return int(cuda.cudaMalloc(64)[0])

    error = allocate() if same_thread else _in_thread(allocate)
    return [error, int(cuda.cudaStreamEndCapture(stream)[0])]


def wait_in_capture() -> list[int]:
    """Error of a wait for a captured stream, and of the capture's end."""
    cuda = _cuda()
    _, stream = cuda.cudaStreamCreateWithFlags(_NON_BLOCKING)
    cuda.cudaStreamBeginCapture(stream, _MODES["relaxed"])
    return [int(cuda.cudaStreamSynchronize(stream)[0]), int(cuda.cudaStreamEndCapture(stream)[0])]


def _read(cuda: Any, address: int) -> int:
    byte = ctypes.c_uint8()
    cuda.cudaMemcpy(ctypes.addressof(byte), address, 1, _DOWNLOAD)
    return byte.value


def _capture_upload(cuda: Any) -> tuple[int, int, int, Any]:
    """A stream, a device byte, and a graph that copies a pinned byte into it."""
    _, stream = cuda.cudaStreamCreateWithFlags(_NON_BLOCKING)
    _, device = cuda.cudaMalloc(1)
    _, pinned = cuda.cudaHostAlloc(1, 0)
    source = ctypes.c_uint8.from_address(pinned)
    source.value = 7
    cuda.cudaStreamBeginCapture(stream, _MODES["global"])
    cuda.cudaMemcpyAsync(device, pinned, 1, _UPLOAD, stream)
    _, graph = cuda.cudaStreamEndCapture(stream)
    _, executable = cuda.cudaGraphInstantiate(graph, 0)
    return stream, device, executable, source


def replay_copy() -> list[int]:
    """The device byte after the capture, after a launch, and after a launch with another source."""
    cuda = _cuda()
    stream, device, executable, source = _capture_upload(cuda)
    values = [_read(cuda, device)]
    cuda.cudaGraphLaunch(executable, stream)
    values.append(_read(cuda, device))
    source.value = 9
    cuda.cudaGraphLaunch(executable, stream)
    return [*values, _read(cuda, device)]


def replay_after_free() -> list[int]:
    """Error of a launch whose copy goes to freed memory, and of the call after it."""
    cuda = _cuda()
    stream, device, executable, _ = _capture_upload(cuda)
    cuda.cudaFree(device)
    return [int(cuda.cudaGraphLaunch(executable, stream)[0]), int(cuda.cudaMalloc(1)[0])]


def fill_memory() -> dict[str, int]:
    """Free bytes at first, and errors of 32 MiB, of 32 MiB more, and of 32 MiB after the first were freed."""
    cuda = _cuda()
    free = cuda.cudaMemGetInfo()[1]
    first, address = cuda.cudaMalloc(32 << 20)
    second = cuda.cudaMalloc(32 << 20)[0]
    cuda.cudaFree(address)
    third = cuda.cudaMalloc(32 << 20)[0]
    return {"free": free, "first": int(first), "second": int(second), "third": int(third)}


def leave_things() -> None:
    """Leave one allocation, one pinned block, a stream and an event, and free another allocation."""
    cuda = _cuda()
    cuda.cudaMalloc(100)
    cuda.cudaHostAlloc(100, 0)
    cuda.cudaStreamCreate()
    cuda.cudaEventCreate()
    cuda.cudaFree(cuda.cudaMalloc(50)[1])


def use_two_devices() -> dict[str, int]:
    """Number of devices, the current one here and in a new thread, and errors of a foreign stream and an unknown device."""
    cuda = _cuda()
    stream, _, executable, _ = _capture_upload(cuda)
    cuda.cudaSetDevice(1)
    return {
        "count": cuda.cudaGetDeviceCount()[1],
        "main": cuda.cudaGetDevice()[1],
        "other": _in_thread(lambda: cuda.cudaGetDevice()[1]),
        "graph": int(cuda.cudaGraphLaunch(executable, stream)[0]),
        "unknown": int(cuda.cudaSetDevice(2)[0]),
    }


def allocate_four_times() -> list[int]:
    """Errors of four allocations and of a query after them."""
    cuda = _cuda()
    return [*(int(cuda.cudaMalloc(1)[0]) for _ in range(4)), int(cuda.cudaMemGetInfo()[0])]


def launch_with_armed_fault() -> list[int]:
    """Errors of a launch, of the launch at which the device is lost, and of the wait after it."""
    cuda = _cuda()
    stream, _, executable, _ = _capture_upload(cuda)
    first = cuda.cudaGraphLaunch(executable, stream)[0]
    arm("graph:1=700")
    lost = cuda.cudaGraphLaunch(executable, stream)[0]
    return [int(first), int(lost), int(cuda.cudaStreamSynchronize(stream)[0])]


def count_devices() -> int:
    """Error of the first call."""
    return int(_cuda().cudaGetDeviceCount()[0])


def missing_in_shim() -> list[str]:
    """Names that the product uses of `cuda.bindings.runtime` and that the stand-in's does not have."""
    from alterbute.backends.cuda.runtime import CudaApi

    used = [name for name in (*vars(CudaApi), *CudaApi.__annotations__) if name.startswith("cuda")]
    assert len(used) > 20
    return [name for name in used if not hasattr(_cuda(), name)]
