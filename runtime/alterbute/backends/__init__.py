"""Backends: engines of different libraries behind one edge (`base.Backend`)."""

from __future__ import annotations

from alterbute.backends.base import Array, Arrays, Backend
from alterbute.backends.choice import BACKENDS, Choice, choose_backend, open_backend
from alterbute.backends.steps import DeviceBackend, Steps, open_steps

__all__ = [
    "BACKENDS",
    "Array",
    "Arrays",
    "Backend",
    "Choice",
    "DeviceBackend",
    "Steps",
    "choose_backend",
    "open_backend",
    "open_steps",
]
