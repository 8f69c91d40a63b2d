"""Opens and uses a bent bundle in a process of its own, with limits of memory and time, and reports what became of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

_ADDRESS_SPACE: Final = 6 << 30
_WALL_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class BentRun:
    """What became of a bent bundle.

    Args:
        kind: "refused" by a typed error; "taken"; else the name of an untyped error, or how the process ended.
        message: The error's text, or a traceback.
        cpu_s: CPU seconds that it took.
        peak_bytes: Largest resident memory of the process.
    """

    kind: str
    message: str
    cpu_s: float
    peak_bytes: int


def run_apart(work: Callable[[], tuple[str, str]]) -> BentRun:
    """Run a function in a child process; it returns kind and message."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        try:
            report = work()
        except BaseException as fault:
            report = (type(fault).__name__, traceback.format_exc()[-2000:])
        os.write(sink, json.dumps(report).encode()[:60_000])
        os._exit(0)
    os.close(sink)
    ready, _, _ = select.select([source], [], [], _WALL_S)
    with open(source, "rb", closefd=True) as stream:
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = stream.read()
    _, status, usage = os.wait4(child, 0)
    kind, message = json.loads(text) if text else ("hung" if not ready else f"ended with status {status}", "")
    return BentRun(kind=kind, message=message, cpu_s=usage.ru_utime + usage.ru_stime, peak_bytes=usage.ru_maxrss * 1024)


def edit_with(folder: Path) -> tuple[str, str]:
    """Open a bundle in Python, edit an 8-bit and a 16-bit photo, and return kind and message."""
    from alterbute import Editor
    from alterbute.errors import AlterbuteError

    photo = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    mask = np.zeros((80, 96), np.uint8)
    mask[20:60, 24:70] = 255
    try:
        with Editor.open(folder, backend="onnxruntime", threads=1) as editor:
            for picture in (photo, photo.astype(np.uint16) << 8):
                editor.edit(picture, mask, "color: red", seed=1, steps=1, detail="photo")
    except AlterbuteError as fault:
        return "refused", str(fault)
    return "taken", ""


def command_with(*words: str) -> tuple[str, str]:
    """Run a verb of the command; returns kind and everything that it printed."""
    from alterbute.cli import main

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(list(words))
    return {0: "taken", 2: "refused"}.get(code, f"exit {code}"), output.getvalue()
