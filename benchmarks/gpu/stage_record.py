"""The record of one stage: its cases, each written to a file as soon as it is measured."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A case begins only if the slowest one so far would fit, this much slower.
_MARGIN, _MARGIN_S = 1.2, 1.0


class CaseFailedError(Exception):
    """A case failed and is recorded; the next cases need a new process, since a GPU error may have spoilt this one."""


class StageSkippedError(Exception):
    """A stage found in its own process that this machine lacks something; the message is the reason."""


class StageRecord:
    """Cases of one stage, in a JSON file that another process reads while this one writes.

    Args:
        path: The file; its content is continued if it exists.
        deadline: When the stage ends, in seconds of `time.time()`; cases that would not end before it are left out.
    """

    def __init__(self, path: Path, deadline: float) -> None:
        self._path, self._deadline = path, deadline
        self._content: dict[str, Any] = {"cases": {}, "failed": {}, "left_out": [], "current": None}
        if path.exists():
            self._content |= json.loads(path.read_text(encoding="utf-8"))
        self._slowest = 0.0

    @property
    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.time()

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        """Results of the measured cases by name."""
        cases: dict[str, dict[str, Any]] = self._content["cases"]
        return cases

    def pending(self, names: Iterable[str]) -> Iterator[str]:
        """Names of the cases that are still to be measured and fit the time left; the others are recorded as left out."""
        self._content["left_out"] = []
        for name in names:
            if name in self.cases or name in self._content["failed"]:
                continue
            if self._slowest and self._slowest * _MARGIN + _MARGIN_S > self.time_left:
                self.leave_out(name)
                continue
            yield name

    def leave_out(self, name: str) -> None:
        """Record a case as left out, since it does not fit the time left."""
        self._content["left_out"].append(name)
        self.save()

    @contextmanager
    def case(self, name: str) -> Iterator[dict[str, Any]]:
        """Measure one case: its block fills the dictionary; an error in it is recorded as the case's failure.

        Raises:
            CaseFailedError: the block failed.
        """
        found: dict[str, Any] = {}
        self._content["current"] = {"name": name, "since": time.time(), "found": found}
        self.save()
        begin = time.monotonic()
        try:
            yield found
        except StageSkippedError:
            self._content["current"] = None
            self.save()
            raise
        except Exception as fault:
            traceback.print_exc()
            self._fail(name, f"{type(fault).__name__}: {first_line(str(fault))}")
            raise CaseFailedError(name) from fault
        seconds = time.monotonic() - begin
        self._slowest = max(self._slowest, seconds)
        self.cases[name] = {**found, "took_s": round(seconds, 2)}
        self._content["current"] = None
        self.save()

    def _fail(self, name: str, reason: str) -> None:
        self._content["failed"][name] = reason
        self._content["current"] = None
        self.save()

    def save(self) -> None:
        """Write the record, what the current case has found so far included."""
        write_json(self._path, self._content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in place of a file, all or nothing, so that no reader and no kill meets half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def first_line(text: str, length: int = 400) -> str:
    """The first line of a text that is not empty, shortened."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:length]
