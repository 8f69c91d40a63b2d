"""A backend whose device has a thread of its own; the image graphs run on the host, in the caller's thread."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from alterbute.backends.base import HOST_GRAPHS, Array, Arrays, Backend, copy_outputs
from alterbute.backends.cuda.device_thread import DeviceThread
from alterbute.backends.cuda.runtime import Cuda
from alterbute.backends.step_state import StepState
from alterbute.bundle import VariantPrecision
from alterbute.errors import DeviceError

T = TypeVar("T")


class DeviceGraphs(Protocol):
    """A bundle's graphs on one device; used by its thread alone."""

    @property
    def cuda(self) -> Cuda:
        """The device and its stream."""
        ...

    @property
    def precisions(self) -> Mapping[str, VariantPrecision]:
        """Precision of each graph."""
        ...

    def open_step_state(self, state: tuple[int, ...]) -> StepState:
        """Allocate the state [slots,K,C,h,w] and input buffers of the step graph."""
        ...

    def run(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph once, and wait for its outputs."""
        ...

    def close(self) -> None:
        """Free engines and memory."""
        ...


class ThreadedBackend:
    """Graphs on a device that any thread may run: one thread of the backend makes all calls to the device.

    A backend that is not closed frees its memory on that thread when it is garbage-collected, and at the latest when the
    interpreter ends.

    Args:
        open_graphs: Opens the graphs; called on the device's thread, which it is given. It must not refer to this object.
        host: The backend that runs the image graphs (`HOST_GRAPHS`).
        device: Index of the GPU.
    """

    # The device pads a launch to the shape of a bucket.
    min_slots: int = 1
    min_rows: int = 1

    def __init__(self, open_graphs: Callable[[DeviceThread], DeviceGraphs], *, host: Backend, device: int) -> None:
        self._host = host
        self._thread = DeviceThread(f"alterbute-gpu-{device}")
        try:
            self._graphs = self._thread.call(lambda: open_graphs(self._thread))
        except BaseException:
            self._thread.stop()
            raise
        self._thread.on_stop(self._graphs.close)
        # The thread must not be waited for in a finalizer, which may run on any thread, that one included.
        weakref.finalize(self, self._thread.stop).atexit = False
        self.precisions: Mapping[str, VariantPrecision] = {**host.precisions, **self._graphs.precisions}

    @property
    def cuda(self) -> Cuda:
        """The device and the stream that every graph runs on, for timing and work on the same stream; use it in `on_device`."""
        return self._graphs.cuda

    def on_device(self, function: Callable[[], T]) -> T:
        """Run a function on the device's thread, where the device is the current one, and return its result."""
        return self._thread.call(function)

    def open_step_state(self, state: tuple[int, ...]) -> StepState:
        """Allocate the state [slots,K,C,h,w] and input buffers of the step graph on the device."""
        graphs = self._graphs
        return self._thread.call(lambda: graphs.open_step_state(state))

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph once, and wait for its outputs.

        Args:
            graph: A name of the manifest's `graphs`.
            inputs: Every input of the graph by name, C-contiguous, with the dtypes of the manifest.
            outputs: Arrays to write results into, by output name; an output that is not named here is newly allocated.

        Returns:
            Every output by name.

        Raises:
            EngineError: the library refuses these inputs, or the backend is closed.
            DeviceError: the graph failed, or the device is lost.
        """
        if graph in HOST_GRAPHS:
            return self._host.run(graph, inputs, outputs)
        graphs = self._graphs
        return copy_outputs(self._thread.call(lambda: graphs.run(graph, inputs)), outputs)

    def close(self) -> None:
        """Free the engines and device memory; memory of a lost device is already gone."""
        try:
            self._thread.close()
        except DeviceError as fault:
            if not fault.is_fatal:
                raise
        finally:
            self._host.close()
