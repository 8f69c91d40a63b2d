"""A clock and a backend that replay measured times, to test the scheduler with thousands of requests on a shared machine.

Each graph first runs a few times and its shortest CPU time is recorded, for the step graph by number of rows. Every call, the first
included, advances the clock by that time. Later calls do not run the graph: they return the outputs of the last real run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Condition
from typing import Any

from alterbute.backends import Array, Arrays, Backend

RUNS = 4
"""Real runs of each graph, of which the shortest counts."""
HOST_GRAPHS = ("window", "paste", "paste16")
"""Graphs that the server runs on the host, in parallel to its device; they take no time on the replay clock."""


class Inline(Executor):
    """An executor that runs each call at once in the caller's thread: host work takes no time on the replay clock."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Run a function at once; returns a future with its result.

        Args:
            fn: The function.
            *args: Positional arguments of the function.
            **options: Keyword arguments of the function.
        """
        future: Future[Any] = Future()
        future.set_result(fn(*args, **options))
        return future


class ReplayClock:
    """Clock in seconds that advances only by replayed launches, and to the next arrival if the service is idle."""

    def __init__(self) -> None:
        self._now_s, self._next_s = 0.0, float("inf")
        self._changed = Condition()

    def monotonic(self) -> float:
        """Current time of the clock in seconds."""
        return self._now_s

    perf_counter = monotonic

    def advance(self, seconds: float) -> None:
        """Advance the clock by a launch; returns once all requests that arrived meanwhile are submitted."""
        with self._changed:
            self._now_s += seconds
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._now_s < self._next_s)

    def wait_until(self, at_s: float, is_idle: Callable[[], bool]) -> None:
        """Wait until the clock reaches `at_s`; if the service is idle, set it to `at_s`."""
        with self._changed:
            self._next_s = at_s
            while self._now_s < at_s and not is_idle():
                self._changed.wait(0.01)
            self._now_s = max(self._now_s, at_s)

    def release(self, next_s: float) -> None:
        """Let the clock advance to `next_s`, when the next request arrives; call it after a request was submitted."""
        with self._changed:
            self._next_s = next_s
            self._changed.notify_all()


class ReplayBackend:
    """A backend that runs each graph until its time is recorded, and then replays time and outputs.

    Args:
        real: The backend that runs the graphs, on one thread.
        clock: The clock that calls advance.
        seconds: Recorded seconds by graph and rows, shared by all contenders.
    """

    def __init__(self, real: Backend, clock: ReplayClock, seconds: dict[tuple[str, int], float]) -> None:
        self.min_slots, self.min_rows = real.min_slots, real.min_rows
        self.precisions = real.precisions
        self._real, self._clock, self._seconds = real, clock, seconds
        self._outputs: dict[str, dict[str, Array]] = {}

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run or replay a graph, and advance the clock by its recorded time.

        Args:
            graph: Name of the graph.
            inputs: Every input of the graph by name.
            outputs: Arrays to write results into, by output name.
        """
        if graph in HOST_GRAPHS:
            if graph not in self._outputs:
                self._outputs[graph] = self._real.run(graph, inputs, outputs)
            return dict(self._outputs[graph])
        key = (graph, inputs["guidance"].shape[1] if graph == "step" else 1)
        if key not in self._seconds or (graph != "step" and graph not in self._outputs):
            spent = []
            for _ in range(RUNS):
                start = time.thread_time()
                results = self._real.run(graph, inputs, outputs)
                spent.append(time.thread_time() - start)
            self._seconds.setdefault(key, min(spent))
            if graph != "step":
                self._outputs[graph] = results
        self._clock.advance(self._seconds[key])
        if graph == "step":
            assert outputs is not None
            outputs["next_state"][:] = inputs["state"]
            return dict(outputs)
        return {name: array.copy() for name, array in self._outputs[graph].items()}

    def close(self) -> None:
        """Close the real backend."""
        self._real.close()
