"""A backend that times its graphs, host seconds of each launch, and replays of the step alone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection
from typing import Any, Protocol

from alterbute.backends import Array, Arrays, Backend, StepState, open_step_state


class Clock(Protocol):
    """Clock of the device that runs the graphs."""

    def mark(self) -> Any:
        """Record the current point of the stream."""
        ...

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks."""
        ...

    def wait(self) -> None:
        """Wait until the stream is idle."""
        ...


class HostClock:
    """The host's clock, for backends whose calls are synchronous; a mark is in seconds."""

    def mark(self) -> float:
        """Current time in seconds."""
        return time.perf_counter()

    def elapsed_ms(self, start: float, end: float) -> float:
        """Milliseconds between two marks."""
        return 1000 * (end - start)

    def wait(self) -> None:
        """Do nothing: calls are synchronous."""


class CudaClock:
    """CUDA events on a backend's stream; the backend's own thread makes every call.

    Args:
        backend: A backend of the product on a GPU, with `cuda` and `on_device`.
    """

    def __init__(self, backend: Any) -> None:
        self._cuda, self._on_device = backend.cuda, backend.on_device

    def mark(self) -> Any:
        """Record an event on the backend's stream."""

        def record() -> Any:
            (event,) = self._cuda.call("cudaEventCreateWithFlags", 0)
            self._cuda.call("cudaEventRecord", event, self._cuda.stream)
            return event

        return self._on_device(record)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two events; waits for the later one."""

        def wait() -> float:
            self._cuda.call("cudaEventSynchronize", end)
            return float(self._cuda.call("cudaEventElapsedTime", start, end)[0])

        return float(self._on_device(wait))

    def wait(self) -> None:
        """Wait until the backend's stream is idle."""
        self._on_device(self._cuda.synchronize)


class TimedBackend:
    """A backend that records seconds and latest inputs per graph, the step states, and all decoded latents."""

    def __init__(self, inner: Backend, clock: Clock) -> None:
        self._inner, self.clock = inner, clock
        self.min_slots, self.min_rows = inner.min_slots, inner.min_rows
        self.precisions = inner.precisions
        self.graph_s: defaultdict[str, list[float]] = defaultdict(list)
        self.inputs: dict[str, dict[str, Array]] = {}
        self.latents: list[Array] = []
        self.steps: list[TimedStepState] = []

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph on the inner backend, and record its inputs and wall seconds.

        Args:
            graph: Name of the graph.
            inputs: Every input of the graph by name.
            outputs: Arrays to write results into, by output name.
        """
        if graph == "decode":
            self.latents.append(inputs["latent"].copy())
        self.inputs[graph] = dict(inputs)
        start = time.perf_counter()
        results = self._inner.run(graph, inputs, outputs)
        self.graph_s[graph].append(time.perf_counter() - start)
        return results

    def open_step_state(self, state: tuple[int, ...]) -> TimedStepState:
        """Allocate the state [slots,K,C,h,w] on the inner backend; its launches are timed."""
        self.steps.append(TimedStepState(open_step_state(self._inner, state)))
        return self.steps[-1]

    def close(self) -> None:
        """Close the inner backend."""
        self._inner.close()


class TimedStepState:
    """Step state that records host seconds of every launch, and the inputs of the last one for `replay`."""

    def __init__(self, inner: StepState) -> None:
        self._inner = inner
        self.enqueue_s: list[float] = []
        self._inputs: dict[str, Array] = {}
        self.write_slot, self.is_finite, self.flip = inner.write_slot, inner.is_finite, inner.flip
        self.latent, self.last_states = inner.latent, inner.last_states

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """Launch a step, and record the host seconds until the call returns."""
        self._inputs = dict(inputs)
        start = time.perf_counter()
        self._inner.launch(inputs, changed)
        self.enqueue_s.append(time.perf_counter() - start)

    def warm_up(self) -> None:
        """Launch every shape on the inner state; these launches are not recorded."""
        self._inner.warm_up()

    def replay(self, times: int, clock: Clock) -> float:
        """Device milliseconds per launch, over `times` repeats of the last launch with unchanged inputs."""
        self._inner.launch(self._inputs, self._inputs.keys())
        self._inner.flip()
        start = clock.mark()
        for _ in range(times):
            self._inner.launch(self._inputs, ())
            self._inner.flip()
        total = clock.elapsed_ms(start, clock.mark())
        clock.wait()
        return total / times
