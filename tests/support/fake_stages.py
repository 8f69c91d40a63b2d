"""Stages of the GPU benchmark that measure nothing: they pass, fail, crash or hang in the way that their names give."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.gpu.stage_plan import GpuJob
from benchmarks.gpu.stage_record import StageRecord, StageSkippedError


def passing(job: GpuJob, record: StageRecord) -> None:
    """Measure two cases."""
    for name in record.pending(["a", "b"]):
        with record.case(name) as found:
            found["process"] = os.getpid()


def failing(job: GpuJob, record: StageRecord) -> None:
    """Fail in the second of three cases."""
    for name in record.pending(["a", "b", "c"]):
        with record.case(name) as found:
            found["process"] = os.getpid()
            if name == "b":
                raise TimeoutError(f"no kernel in {job.bundle}\nand more")


def importing(job: GpuJob, record: StageRecord) -> None:
    """Fail outside a case, by a module that does not exist."""
    import no_such_module  # type: ignore[import-not-found]  # noqa: F401


def crashing(job: GpuJob, record: StageRecord) -> None:
    """End the process by a signal in the first of two cases, as native code does."""
    for name in record.pending(["a", "b"]):
        with record.case(name) as found:
            found["process"] = os.getpid()
            if name == "a":
                os.kill(os.getpid(), signal.SIGSEGV)


def hanging_case(job: GpuJob, record: StageRecord) -> None:
    """Hang in the first of two cases, after a part of it was found; signals that Python handles do not end it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name in record.pending(["a", "b"]):
        with record.case(name) as found:
            if name == "a":
                found["part"] = 1
                record.save()
                time.sleep(1000)


def hanging(job: GpuJob, record: StageRecord) -> None:
    """Measure one case, then hang outside any."""
    for name in record.pending(["a"]):
        with record.case(name) as found:
            found["process"] = os.getpid()
    time.sleep(1000)


def lacking(job: GpuJob, record: StageRecord) -> None:
    """Find in its own process that the machine lacks something."""
    raise StageSkippedError("this torch has no CUDA device")


def slow_cases(job: GpuJob, record: StageRecord) -> None:
    """Measure cases of a quarter of a second each, more than any test has time for."""
    for name in record.pending([f"case {number}" for number in range(100)]):
        with record.case(name):
            time.sleep(0.25)
