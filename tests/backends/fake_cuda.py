"""A stand-in for `cuda.bindings.runtime`: memory is host memory, work is done when it is enqueued, calls are written down.

It keeps CUDA's rules where they matter here: copies outside allocations, captures that are not ended, and use of freed
memory raise; during a capture work is recorded and not done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

H2D, D2H = "host to device", "device to host"


class FakeCuda:
    """Call `fail(name, code, after)` to make a later call of a function fail; 700 and its like stay."""

    class cudaMemcpyKind:
        cudaMemcpyHostToDevice = H2D
        cudaMemcpyDeviceToHost = D2H

    class cudaStreamCaptureMode:
        cudaStreamCaptureModeThreadLocal = "thread local"

    def __init__(self, free_bytes: int = 1 << 34) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.capturing: list[Callable[[], object]] | None = None
        self.graphs: dict[str, list[Callable[[], object]]] = {}
        self.live: dict[str, set[object]] = {"stream": set(), "event": set(), "exec": set()}
        self._free_bytes, self._serial = free_bytes, 0
        self._faults: dict[str, tuple[int, int]] = {}
        self._sticky = 0

    def fail(self, name: str, code: int, after: int = 0) -> None:
        self._faults[name] = (code, after)

    def count(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)

    def enqueue(self, work: Callable[[], object]) -> None:
        """What a library's kernel would be."""
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            work()

    def _enter(self, name: str, *arguments: Any) -> int:
        self.calls.append((name, *arguments))
        if self._sticky:
            return self._sticky
        code, after = self._faults.get(name, (0, 0))
        if not code:
            return 0
        if after:
            self._faults[name] = (code, after - 1)
            return 0
        del self._faults[name]
        if code >= 200:
            self._sticky = code
        return code

    def _new(self, kind: str) -> str:
        self._serial += 1
        return f"{kind} {self._serial}"

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return (self._enter("cudaSetDevice", device),)

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._enter("cudaMemGetInfo"), self._free_bytes, 1 << 35

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if code := self._enter("cudaMalloc", size):
            return code, None
        # 0xff: memory is not zero until it is set.
        buffer = ctypes.create_string_buffer(b"\xff" * size, size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        code = self._enter("cudaFree", devPtr)
        if not code:
            del self.memory[devPtr]
        return (code,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        if code := self._enter("cudaHostAlloc", size):
            return code, None
        buffer = ctypes.create_string_buffer(size)
        self.pinned[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        code = self._enter("cudaFreeHost", ptr)
        if not code:
            del self.pinned[ptr]
        return (code,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: object, stream: object) -> tuple[Any, ...]:
        code = self._enter("cudaMemcpyAsync", dst, src, count, kind)
        if not code:
            device, host = (dst, src) if kind == H2D else (src, dst)
            assert _inside(self.memory, device, count), "a copy outside device memory"
            assert _inside(self.pinned, host, count), "a copy outside pinned memory"
            self.enqueue(lambda: ctypes.memmove(dst, src, count))
        return (code,)

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: object) -> tuple[Any, ...]:
        code = self._enter("cudaMemsetAsync", devPtr, value, count)
        if not code:
            assert _inside(self.memory, devPtr, count)
            self.enqueue(lambda: ctypes.memset(devPtr, value, count))
        return (code,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaStreamCreateWithFlags", flags)
        self.live["stream"].add(4096)
        return code, 4096

    def cudaStreamDestroy(self, stream: object) -> tuple[Any, ...]:
        self.live["stream"].discard(stream)
        return (self._enter("cudaStreamDestroy"),)

    def cudaStreamSynchronize(self, stream: object) -> tuple[Any, ...]:
        assert self.capturing is None, "a wait inside a capture"
        return (self._enter("cudaStreamSynchronize"),)

    def cudaStreamBeginCapture(self, stream: object, mode: object) -> tuple[Any, ...]:
        code = self._enter("cudaStreamBeginCapture", mode)
        if not code:
            assert self.capturing is None, "a capture inside a capture"
            self.capturing = []
        return (code,)

    def cudaStreamEndCapture(self, stream: object) -> tuple[Any, ...]:
        code = self._enter("cudaStreamEndCapture")
        work, self.capturing = self.capturing, None
        if code or work is None:
            return code or 401, None
        graph = self._new("graph")
        self.graphs[graph] = work
        return 0, graph

    def cudaGraphInstantiate(self, graph: object, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaGraphInstantiate", graph)
        executable = self._new("exec")
        self.graphs[executable] = self.graphs[str(graph)]
        self.live["exec"].add(executable)
        return code, executable

    def cudaGraphLaunch(self, graphExec: object, stream: object) -> tuple[Any, ...]:
        code = self._enter("cudaGraphLaunch", graphExec)
        if not code:
            assert graphExec in self.live["exec"], "a destroyed graph is launched"
            for work in self.graphs[str(graphExec)]:
                work()
        return (code,)

    def cudaGraphDestroy(self, graph: object) -> tuple[Any, ...]:
        return (self._enter("cudaGraphDestroy", graph),)

    def cudaGraphExecDestroy(self, graphExec: object) -> tuple[Any, ...]:
        self.live["exec"].remove(graphExec)
        return (self._enter("cudaGraphExecDestroy", graphExec),)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        code = self._enter("cudaEventCreateWithFlags", flags)
        event = self._new("event")
        self.live["event"].add(event)
        return code, event

    def cudaEventDestroy(self, event: object) -> tuple[Any, ...]:
        self.live["event"].remove(event)
        return (self._enter("cudaEventDestroy", event),)

    def cudaEventRecord(self, event: object, stream: object) -> tuple[Any, ...]:
        return (self._enter("cudaEventRecord", event),)

    def cudaEventSynchronize(self, event: object) -> tuple[Any, ...]:
        return (self._enter("cudaEventSynchronize", event),)

    def cudaGetErrorName(self, error: object) -> tuple[Any, ...]:
        return 0, f"cudaError{error}".encode()


def _inside(allocations: dict[int, Any], address: int, count: int) -> bool:
    return any(base <= address and address + count <= base + len(buffer) for base, buffer in allocations.items())
