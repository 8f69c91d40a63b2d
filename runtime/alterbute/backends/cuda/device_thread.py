"""A thread that makes every call to one device and to the engine library that runs on it, whatever thread asks.

CUDA keeps the current device per thread, and ONNX Runtime keeps captured CUDA graphs per thread: an edit from another thread
would capture them all again.
"""

from __future__ import annotations

import atexit
import logging
from _thread import allocate_lock
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread, get_ident
from typing import Any, Final, TypeVar, cast

from alterbute.backends.cuda.capture_guard import CAPTURES
from alterbute.errors import EngineError

T = TypeVar("T")
_logger: Final = logging.getLogger(__name__)
# A device that hangs must not keep the interpreter from ending.
_EXIT_S: Final = 10.0


class DeviceThread:
    """A thread that runs functions one after another, each while no other thread of the process captures.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._last: _Job | None = None
        self._release: Callable[[], object] = _do_nothing
        self._has_ended = False
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        _open_threads.add(self)
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the thread, wait, and return its result; called from that thread, it runs at once.

        Raises:
            EngineError: the thread was closed.
            Exception: what the function raises, with its traceback.
        """
        if get_ident() == self._thread.ident:
            return function()
        job = _Job(function)
        self._jobs.put(job)
        if self._has_ended:
            self._refuse_rest()
        job.done.acquire()
        if job.fault is not None:
            fault, job.fault = job.fault, None
            try:
                raise fault
            finally:
                del fault
        return cast(T, job.result)

    def on_stop(self, release: Callable[[], object]) -> None:
        """Set what the thread does last: free what it owns. It must not refer to the object whose end stops the thread."""
        self._release = release

    def stop(self) -> None:
        """Let the thread finish what was asked, free what it owns, and end; returns at once and never raises."""
        if self._last is None:
            self._last = _Job(self._release)
            self._release = _do_nothing
            self._jobs.put(self._last)
            self._jobs.put(None)

    def close(self) -> None:
        """Stop the thread and wait for its end.

        Raises:
            Exception: what the release raised, once.
        """
        self.stop()
        if get_ident() != self._thread.ident:
            self._thread.join()
        if self._last is not None and self._last.fault is not None:
            fault, self._last.fault = self._last.fault, None
            raise fault

    def join(self, timeout_s: float) -> None:
        """Wait for the end of a stopped thread, but not longer than this."""
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            with CAPTURES.shared():
                job.run()
            # Nothing of a finished call stays alive until the next one.
            del job
        self._has_ended = True
        self._refuse_rest()
        _open_threads.discard(self)

    def _refuse_rest(self) -> None:
        """Refuse what was asked after the end: by this thread as it ends, or by the thread that asked."""
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return
            if job is not None:
                job.fault = EngineError("the backend is closed", "an open backend", "open the editor again")
                job.done.release()


class _Job:
    """A call: its function, then its result or its error."""

    __slots__ = ("done", "fault", "function", "result")

    def __init__(self, function: Callable[[], object]) -> None:
        self.function: Callable[[], object] | None = function
        self.result: Any = None
        self.fault: BaseException | None = None
        # Half as dear as an Event, and a call waits once.
        self.done = allocate_lock()
        self.done.acquire()

    def run(self) -> None:
        function, self.function = self.function, None
        try:
            self.result = function() if function else None
        except BaseException as fault:
            self.fault = fault
        # The function's closure is freed here, on the device's thread, and not on the caller's.
        del function
        self.done.release()


def _do_nothing() -> None:
    pass


_open_threads: Final[set[DeviceThread]] = set()


@atexit.register
def _close_all() -> None:
    """Free what backends hold that were not closed, while the engine libraries still work."""
    threads = list(_open_threads)
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join(_EXIT_S)
