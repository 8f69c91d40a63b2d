"""Backends: engines of different libraries behind one edge (`base.Backend`)."""

from __future__ import annotations

from alterbute.backends.base import Array, Arrays, Backend
from alterbute.backends.steps import DeviceBackend, Steps, open_steps
from alterbute.bundle import Bundle
from alterbute.errors import InputError

__all__ = ["BACKENDS", "Array", "Arrays", "Backend", "DeviceBackend", "Steps", "open_backend", "open_steps"]

BACKENDS = ("onnxruntime",)


def open_backend(name: str, bundle: Bundle, *, threads: int | None = None) -> Backend:
    """Start loading a bundle's graphs.

    Args:
        name: One of BACKENDS.
        bundle: The bundle; its files are verified as they are read.
        threads: CPU threads for the large graphs; None takes as many as keep results free of who shares a launch.

    Raises:
        InputError: no such backend.
        EngineError: its library is not installed.
    """
    if name not in BACKENDS:
        raise InputError(f"the backend is {name!r}", f"one of {', '.join(BACKENDS)}", "choose one of those", "backend", "backend_unknown")
    from alterbute.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(bundle, threads=threads)
