"""The stand-in of CUDA under the C++ driver: its environment, and the calls that it logged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of CUDA: the thread, its device, the stream (0: none), whether that stream was being captured, and what was called."""

    thread: int
    device: int
    stream: int
    is_captured: bool
    name: str
    detail: str


def open_standin(log: Path) -> dict[str, str]:
    """Environment of a process that runs on the stand-in and logs to a file; skips where it cannot be had."""
    libraries, onnxruntime = (os.environ.get(f"ALTERBUTE_STANDIN_{name}") for name in ("LIBRARIES", "ONNXRUNTIME"))
    if not libraries or not onnxruntime:
        pytest.skip("no stand-in of CUDA")
    return {"LD_LIBRARY_PATH": libraries, "ALTERBUTE_ONNXRUNTIME": onnxruntime, "STANDIN_LOG": str(log)}


def read_log(log: Path) -> list[Call]:
    """Every call so far."""
    calls = []
    for line in log.read_text().splitlines():
        thread, device, stream, is_captured, name, detail = line.split("\t")
        calls.append(
            Call(
                thread=int(thread),
                device=int(device),
                stream=int(stream),
                is_captured=is_captured == "1",
                name=name,
                detail=detail,
            )
        )
    return calls
