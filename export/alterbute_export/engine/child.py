"""Running the worker: progress comes up a pipe, a crash becomes a message, Ctrl-C ends the build and nothing stays."""

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

from alterbute_export.engine.build_job import BuildJob, Built
from alterbute_export.errors import BuildError

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with the builder's phase, its step, and how many steps it has (0: unknown)."""

WORKER: Final = (sys.executable, "-m", "alterbute_export.engine.worker")
# A builder looks at its monitor between kernels; one that does not stop in this time is killed.
_STOP_S: Final = 10.0
_TAIL_LINES: Final = 6


def run_job(job: BuildJob, report: Report, *, worker: Sequence[str] = WORKER) -> Built:
    """Build one plan in a process of its own.

    Args:
        job: What to build.
        report: Told about progress.
        worker: The command to run; the job's file is added.

    Raises:
        BuildError: the build failed, with the builder's last words, or the builder crashed, with the signal.
        KeyboardInterrupt: Ctrl-C; the child has ended before this is raised.
    """
    with TemporaryDirectory(prefix="alterbute-engine-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(typed_json.dump(job), encoding="utf-8")
        with (Path(folder) / "log").open("w+b") as log:
            child = subprocess.Popen([*worker, str(path)], stdout=subprocess.PIPE, stderr=log, env=_environment())
            try:
                message = _listen(child.stdout, report)
                code = child.wait()
            finally:
                _stop(child)
            log.seek(0)
            words = _tail(log.read())
    return _judge(job, message, code, words)


def _environment() -> dict[str, str]:
    """The child finds the packages where this process found them."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _listen(pipe: IO[bytes] | None, report: Report) -> dict[str, Any]:
    """Relay progress until the child closes its end; its last message that is none."""
    last: dict[str, Any] = {}
    for line in pipe or ():
        try:
            message = json.loads(line)
        except ValueError:
            continue  # a library that prints; its words are no messages
        if not isinstance(message, dict):
            continue
        if "phase" in message:
            report(str(message["phase"]), int(message["step"]), int(message["steps"]))
        else:
            last = message
    return last


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a child that still runs to give up, and end it when it does not."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _judge(job: BuildJob, message: dict[str, Any], code: int, words: str) -> Built:
    said = f"; the builder's last words: {words}" if words else ""
    if code < 0:
        raise BuildError(
            f"the builder crashed ({_signal_name(-code)}) on graph {job.graph!r}{said}",
            "a build that ends",
            "try a lower optimization_level or another version of the library, and report the graph",
        )
    if "built" in message:
        return typed_json.build(Built, message["built"])
    seen, expected, fix = message.get("error") or (f"the builder ended with code {code}", "a plan", "run it again")
    raise BuildError(f"{seen}{said}", expected, fix)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(log: bytes) -> str:
    """The errors at the end of the library's own messages, in one line."""
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line or "Error" in line]
    return " | ".join((errors or lines)[-_TAIL_LINES:])
