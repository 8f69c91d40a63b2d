"""Progress monitor of a build: the builder calls it from its own threads, and it is the only way to stop a build."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock
from typing import Any, Final

from alterbute_export.engine.module import BuilderModule

_INTERVAL_S: Final = 0.1


def make_monitor(trt: BuilderModule, report: Callable[[str, int, int], None], stop: Event) -> Any:
    """An `IProgressMonitor` that reports phases and cancels the build when `stop` is set.

    The base class is a name of the builder module, so the class is defined in this function.

    Args:
        trt: The builder module.
        report: Called with the phase, its step and how many steps it has: at most ten times a second, and at the end of a phase.
        stop: Checked after every step of every phase.
    """
    base: type = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._lock, self._steps, self._reported_at = Lock(), dict[str, int](), 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                steps, now = self._steps.get(phase_name, 0), time.monotonic()
                if now - self._reported_at >= _INTERVAL_S:
                    self._reported_at = now
                    report(phase_name, step + 1, steps)
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                steps = self._steps.pop(phase_name, 0)
            report(phase_name, steps, steps)

    return Monitor()
