"""The build process, seen from the exporter: progress over a pipe, crashes as errors, and a clean end on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, TypeAlias

from alterbute.bundle import typed_json

from alterbute_export.engine.build_job import BuildJob, BuiltPlan
from alterbute_export.errors import BuildError

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with the builder's phase, its step, and how many steps it has (0: unknown)."""

WORKER: Final = (sys.executable, "-m", "alterbute_export.engine.worker")
# A builder checks its progress monitor between kernels; one that does not stop in this time is killed.
_STOP_S: Final = 10.0
_TAIL_LINES: Final = 6


def run_job(job: BuildJob, report: Report, *, worker: Sequence[str] = WORKER) -> BuiltPlan:
    """Build one plan in a separate process.

    Args:
        job: The plan to build.
        report: Called with the builder's phase, its step, and how many steps it has (0: unknown).
        worker: The command to run; the path of the job's file is appended.

    Returns:
        The result that the process printed.

    Raises:
        BuildError: the build failed, with the last lines of the builder's log, or the builder crashed, with the signal.
        KeyboardInterrupt: Ctrl-C; the child has ended before this is raised.
    """
    with TemporaryDirectory(prefix="alterbute-engine-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(typed_json.dump(job), encoding="utf-8")
        with (Path(folder) / "log").open("w+b") as log:
            child = subprocess.Popen([*worker, str(path)], stdout=subprocess.PIPE, stderr=log, env=_environment())
            try:
                message = _relay_progress(child.stdout, report)
                code = child.wait()
            finally:
                _stop(child)
            log.seek(0)
            log_tail = _read_tail(log.read())
    return _read_result(job, message, code, log_tail)


def _environment() -> dict[str, str]:
    """This process's environment, with its import path, so that the child imports the same packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _relay_progress(pipe: IO[bytes] | None, report: Report) -> dict[str, Any]:
    """Report progress until the child closes the pipe; returns its last message that is not about progress."""
    last: dict[str, Any] = {}
    for line in pipe or ():
        try:
            message = json.loads(line)
        except ValueError:
            continue  # printed by a library
        if not isinstance(message, dict):
            continue
        if "phase" in message:
            report(str(message["phase"]), int(message["step"]), int(message["steps"]))
        else:
            last = message
    return last


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a running child to stop, and kill it if it does not."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _read_result(job: BuildJob, message: dict[str, Any], code: int, log_tail: str) -> BuiltPlan:
    """The result in the child's last message; raises `BuildError` if the child failed."""
    log_note = f"; the builder's last words: {log_tail}" if log_tail else ""
    if code < 0:
        raise BuildError(
            f"the builder crashed ({_signal_name(-code)}) on graph {job.graph!r}{log_note}",
            "a build that ends",
            "try a lower optimization_level or another version of the library, and report the graph",
        )
    if "built" in message:
        return typed_json.build(BuiltPlan, message["built"])
    seen, expected, fix = message.get("error") or (f"the builder ended with code {code}", "a plan", "run it again")
    raise BuildError(f"{seen}{log_note}", expected, fix)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read_tail(log: bytes) -> str:
    """The last errors in the library's log, in one line; its last lines if it has no errors."""
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line or "Error" in line]
    return " | ".join((errors or lines)[-_TAIL_LINES:])
