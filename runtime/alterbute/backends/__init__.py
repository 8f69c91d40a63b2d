"""Backends: graphs run by different engine libraries behind one interface, `base.Backend`."""

from __future__ import annotations

from alterbute.backends.base import Array, Arrays, Backend
from alterbute.backends.choice import BACKENDS, BackendChoice, choose_backend, close_on_error, open_backend
from alterbute.backends.first_run import run_all_graphs
from alterbute.backends.step_state import DeviceBackend, StepState, open_step_state

__all__ = [
    "BACKENDS",
    "Array",
    "Arrays",
    "Backend",
    "BackendChoice",
    "DeviceBackend",
    "StepState",
    "choose_backend",
    "close_on_error",
    "open_backend",
    "open_step_state",
    "run_all_graphs",
]
