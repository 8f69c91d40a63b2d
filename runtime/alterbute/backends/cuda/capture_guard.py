"""Keeps CUDA calls of this process's other threads out of a capture in global mode, which ONNX Runtime uses.

While a stream is captured in global mode, a call that may allocate or synchronise on any thread fails and invalidates the capture
(CUDA C++ programming guide, stream capture). So a thread that captures is alone, and all others share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock, local
from typing import Final


class CaptureGuard:
    """A reader-writer lock of the process: threads that use a device share it, and a thread that captures has it alone.

    Both sides may be entered again by the thread that is inside. A thread that waits to capture is let in before those
    that come after it, so launches of other devices cannot keep it out.
    """

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._held = _Held()
        self._num_sharing = self._num_waiting = 0
        self._is_capturing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the guard together with other threads: no thread of the process captures meanwhile, but this one may."""
        if self._held.is_shared or self._held.is_exclusive:
            yield
            return
        self._enter_shared()
        try:
            yield
        finally:
            self._leave_shared()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the guard alone, to capture; a thread that shares it gives that up meanwhile, so that two of them do not wait for each other."""
        if self._held.is_exclusive:
            yield
            return
        was_shared = self._held.is_shared
        if was_shared:
            self._leave_shared()
        try:
            self._enter_exclusive()
            try:
                yield
            finally:
                self._leave_exclusive()
        finally:
            if was_shared:
                self._enter_shared()

    def _enter_shared(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self._is_capturing or self._num_waiting))
            self._num_sharing += 1
        self._held.is_shared = True

    def _leave_shared(self) -> None:
        self._held.is_shared = False
        with self._changed:
            self._num_sharing -= 1
            self._changed.notify_all()

    def _enter_exclusive(self) -> None:
        with self._changed:
            self._num_waiting += 1
            try:
                self._changed.wait_for(lambda: not (self._is_capturing or self._num_sharing))
                self._is_capturing = True
            finally:
                self._num_waiting -= 1
                # Those who share may go on when this thread gave up waiting.
                self._changed.notify_all()
        self._held.is_exclusive = True

    def _leave_exclusive(self) -> None:
        self._held.is_exclusive = False
        with self._changed:
            self._is_capturing = False
            self._changed.notify_all()


class _Held(local):
    """What this thread holds."""

    is_shared = False
    is_exclusive = False


CAPTURES: Final = CaptureGuard()
"""The guard of this process. A program that uses CUDA beside this package may hold `CAPTURES.shared()` around its own calls."""
