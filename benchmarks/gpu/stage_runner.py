"""Stages run one after another, each in a process of its own that is killed at its limit; results are written after every case.

After a case that failed, crashed or hung, the rest of its stage goes on in a new process: an error on the GPU can spoil every later call
of the process that met it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.stage_child import CASE_FAILED, SKIPPED
from benchmarks.gpu.stage_plan import RESERVE_S, GpuJob, PlannedStage, Stage, no_time
from benchmarks.gpu.stage_record import first_line, write_json

_ROOT: Final = Path(__file__).parents[2]
_POLL_S: Final = 0.1
# A new process for the rest of a stage pays only if more than this is left of it.
_RESTART_S: Final = 10.0
_TAIL_BYTES: Final = 4000
Facts = Callable[[], Mapping[str, Any]]


def run_plan(
    plan: Sequence[PlannedStage], job: GpuJob, seconds: float, facts: Facts, save: Callable[[dict[str, Any]], None]
) -> dict[str, dict[str, Any]]:
    """Run the planned stages within the seconds; returns the entry of each stage by name.

    Args:
        plan: The stages, in the order in which they run.
        job: What each stage is given.
        seconds: Seconds for all stages and the report.
        facts: Gives the facts that each entry records, such as card, driver, clocks and commit.
        save: Called with all entries after every change of one.
    """
    end = time.monotonic() + seconds
    entries: dict[str, dict[str, Any]] = {}
    for planned in plan:
        stage = planned.stage
        reason = planned.missing or no_time(stage, end - time.monotonic())
        if not reason and stage.needs_bundle and not (Path(job.bundle) / "manifest.json").is_file():
            reason = f"there is no bundle in {job.bundle}"
        entry: dict[str, Any] = {"status": "skipped", "measures": stage.measures, "reason": reason, "cases": {}}
        entries[stage.name] = entry
        if not reason:
            entry.update(status="running", before=dict(facts()))
            limit = min(stage.limit, end - time.monotonic() - RESERVE_S)
            _run_stage(stage, job, limit, partial(_change, entries, entry, save))
            entry["after"] = dict(facts())
        _report_line(stage, entry, seconds - (end - time.monotonic()))
        save(entries)
    return entries


def _change(
    entries: dict[str, dict[str, Any]],
    entry: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
    changes: Mapping[str, Any],
) -> None:
    entry.update(changes)
    save(entries)


def _report_line(stage: Stage, entry: Mapping[str, Any], at: float) -> None:
    said = entry["reason"] or f"{len(entry['cases'])} cases"
    print(f"{at:6.1f} s  {stage.name:<14} {entry['status']}: {said}", flush=True)
    for name, fault in entry.get("failed", {}).items():
        print(f"          {'':<14} FAILED {name}: {fault}", flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How a stage's process ended: its exit code; or None and the reason for which it was killed."""

    code: int | None
    reason: str = ""
    is_stage_over: bool = False


def _run_stage(stage: Stage, job: GpuJob, limit: float, change: Callable[[Mapping[str, Any]], None]) -> None:
    """Run a stage until it is done or its limit is reached; `change` is given what changes in its entry."""
    begin = time.monotonic()
    folder = Path(job.out) / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    record, log = folder / f"{stage.name}.json", folder / f"{stage.name}.log"
    record.unlink(missing_ok=True)
    log.write_bytes(b"")
    job.write(folder / "job.json")
    deadline = time.time() + limit
    while True:
        known = _count(_read(record))
        ended = _run_process(stage, folder / "job.json", record, log, deadline, change)
        content = _settle(record, ended, log)
        change(_outcome(content, ended, log))
        is_worth_it = deadline - time.time() > _RESTART_S and _count(content) > known
        if ended.code in (0, SKIPPED) or ended.is_stage_over or not is_worth_it:
            break
    change({"seconds": round(time.monotonic() - begin, 1)})


def _run_process(
    stage: Stage, job: Path, record: Path, log: Path, deadline: float, change: Callable[[Mapping[str, Any]], None]
) -> _Ended:
    reference = f"{stage.run.__module__}:{stage.run.__qualname__}"
    command = [sys.executable, "-m", "benchmarks.gpu.stage_child", reference, str(job), str(record), str(deadline)]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(_ROOT)]))
    seen = 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
            # The process and its children, such as torch's compile workers, are killed as a group.
            start_new_session=True,
        )
        try:
            while (code := process.poll()) is None:
                changed = record.stat().st_mtime_ns if record.exists() else 0
                if changed != seen:
                    seen = changed
                    change(_read(record))
                if time.time() > deadline:
                    return _Ended(code=None, reason="killed at the stage's time limit", is_stage_over=True)
                if stage.case_limit and _current_age(record) > stage.case_limit:
                    return _Ended(code=None, reason=f"killed after {stage.case_limit:.0f} s, the limit of a case")
                time.sleep(_POLL_S)
            return _Ended(code=code)
        finally:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        # A process that waits inside the driver may not end at once; the next stage does not wait for it.
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        print(f"process {process.pid} does not end", flush=True)


def _settle(record: Path, ended: _Ended, log: Path) -> dict[str, Any]:
    """Record the case that was running when the process ended as failed, with what it had found."""
    content = _read(record)
    current = content.get("current")
    if current:
        reason = ended.reason or _exit_reason(ended.code, log)
        found = f"; found so far: {json.dumps(current['found'])}" if current["found"] else ""
        content["failed"][current["name"]] = reason + found
        content["current"] = None
        write_json(record, content)
    return content


def _outcome(content: Mapping[str, Any], ended: _Ended, log: Path) -> dict[str, Any]:
    """Status and reason of a stage whose process ended, and its record."""
    cases, failed = content["cases"], content["failed"]
    reason = ended.reason
    if ended.code == SKIPPED:
        return {**content, "status": "skipped", "reason": _tail(log)}
    if ended.code not in (0, None, CASE_FAILED):
        reason = _exit_reason(ended.code, log)
    if not failed and not reason:
        left_out = content["left_out"]
        return {**content, "status": "ok", "reason": f"left out for time: {', '.join(left_out)}" if left_out else ""}
    return {**content, "status": "partly failed" if cases else "failed", "reason": reason}


def _exit_reason(code: int | None, log: Path) -> str:
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return first_line(f"its process ended with {how}: {_tail(log)}")


def _tail(log: Path) -> str:
    lines = [line for line in log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def _read(record: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"cases": {}, "failed": {}, "left_out": [], "current": None}
    if not record.exists():
        return empty
    content: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return content


def _count(content: Mapping[str, Any]) -> int:
    return len(content["cases"]) + len(content["failed"])


def _current_age(record: Path) -> float:
    current = _read(record)["current"]
    return time.time() - float(current["since"]) if current else 0.0
