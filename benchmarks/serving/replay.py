"""A clock and a backend that replay measured launches: the real scheduler, thousands of requests, on a machine that others use.

Each graph runs for real until it has been timed (CPU seconds, the least of a few runs, by rows for the step graph); from then on
its time is added to the clock instead of being spent, and its outputs are those of the last real run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Condition
from typing import Any

from alterbute.backends import Array, Arrays, Backend

RUNS = 4
BESIDE = ("window", "paste")
"""Graphs that the server runs beside its device."""


class Inline(Executor):
    """An executor that runs work at once: on this clock, work beside the device takes no time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Run a call at once; returns a future that is done.

        Args:
            fn: The function.
            *args: Its positional arguments.
            **options: Its keyword arguments.
        """
        future: Future[Any] = Future()
        future.set_result(fn(*args, **options))
        return future


class ReplayClock:
    """Time that passes only when a launch is replayed, or when there is nothing to do until the next arrival."""

    def __init__(self) -> None:
        self._now_s, self._next_s = 0.0, float("inf")
        self._changed = Condition()

    def monotonic(self) -> float:
        return self._now_s

    perf_counter = monotonic

    def advance(self, seconds: float) -> None:
        """Advance the clock by a launch; requests that arrived meanwhile are submitted before the next launch."""
        with self._changed:
            self._now_s += seconds
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._now_s < self._next_s)

    def wait_until(self, at_s: float, is_idle: Callable[[], bool]) -> None:
        """Wait for an arrival's time."""
        with self._changed:
            self._next_s = at_s
            while self._now_s < at_s and not is_idle():
                self._changed.wait(0.01)
            self._now_s = max(self._now_s, at_s)

    def release(self, next_s: float) -> None:
        """A request was submitted; the next arrival is due at `next_s`."""
        with self._changed:
            self._next_s = next_s
            self._changed.notify_all()


class ReplayBackend:
    """A real backend until its graphs are timed.

    Args:
        real: The real backend, on one thread.
        clock: The clock that launches advance.
        seconds: Seconds by graph and rows, shared by all contenders.
    """

    def __init__(self, real: Backend, clock: ReplayClock, seconds: dict[tuple[str, int], float]) -> None:
        self.min_slots, self.min_rows = real.min_slots, real.min_rows
        self.precisions = real.precisions
        self._real, self._clock, self._seconds = real, clock, seconds
        self._kept: dict[str, dict[str, Array]] = {}

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph, or wait as long as an earlier run of the same graph and rows took.

        Args:
            graph: Name of the graph.
            inputs: Every input of the graph by name.
            outputs: Arrays to write results into, by output name.
        """
        if graph in BESIDE:
            if graph not in self._kept:
                self._kept[graph] = self._real.run(graph, inputs, outputs)
            return dict(self._kept[graph])
        key = (graph, inputs["guidance"].shape[1] if graph == "step" else 1)
        if key not in self._seconds or (graph != "step" and graph not in self._kept):
            spent = []
            for _ in range(RUNS):
                start = time.thread_time()
                found = self._real.run(graph, inputs, outputs)
                spent.append(time.thread_time() - start)
            self._seconds.setdefault(key, min(spent))
            if graph != "step":
                self._kept[graph] = found
        self._clock.advance(self._seconds[key])
        if graph == "step":
            assert outputs is not None
            outputs["next_state"][:] = inputs["state"]
            return dict(outputs)
        return {name: array.copy() for name, array in self._kept[graph].items()}

    def close(self) -> None:
        self._real.close()
