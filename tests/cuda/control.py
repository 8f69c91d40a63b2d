"""What a program that runs over the stand-in of CUDA can ask of it: marks in the log, faults from now on, what is alive."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

_KINDS: Final = ("allocations", "bytes", "pinned", "streams", "events", "graphs", "executables")


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL("libcudart.so.13")


def mark(text: str) -> None:
    """Write a mark into the log, for `CallLog.between`."""
    _library().standin_mark(text.encode())


def arm(faults: str) -> None:
    """Let calls fail, counted from now on and in place of earlier faults; an empty text lets none fail.

    Args:
        faults: Such as `cudaMalloc:3=2` (the third with error 2), `graph:1=700`, `allocation:1+=2` (all from the first).
    """
    _library().standin_arm(faults.encode())


def alive() -> dict[str, int]:
    """Device allocations, their bytes, pinned allocations, streams, events, graphs and executable graphs that exist now."""
    counts = (ctypes.c_long * len(_KINDS))()
    _library().standin_alive(counts)
    return dict(zip(_KINDS, counts, strict=True))
