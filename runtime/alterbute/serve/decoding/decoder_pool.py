"""A few decoder processes, shared by all requests: first come, first served, and never all for one client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from alterbute.errors import OverloadedError
from alterbute.serve.decoding.decoder_process import COMMAND, DecoderKilled, DecoderProcess

T = TypeVar("T")


class DecoderPool:
    """Places for decoding, each a process and the thread that waits for it; processes start when they are needed, and stay.

    All methods but `warm_up` and `close` are called in one event loop.

    Args:
        size: Number of places. One client holds at most all but one, if there are two or more.
        decode_timeout_s: CPU seconds that a picture of 12 megapixels may take.
        command: Starts a decoder process; None is `COMMAND`.
    """

    def __init__(self, size: int, decode_timeout_s: float, command: Sequence[str] | None = None) -> None:
        self._size, self._decode_timeout_s, self._command = size, decode_timeout_s, command or COMMAND
        self._threads = ThreadPoolExecutor(size, "alterbute-decode")
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._is_closed = False

    @property
    def num_busy(self) -> int:
        """Places that are taken."""
        return self._held.total()

    def warm_up(self) -> None:
        """Start a process before the first picture needs it.

        Raises:
            EngineError: it cannot be started.
        """
        decoder = self._make_decoder()
        decoder.start()
        self._idle.append(decoder)
        if self._is_closed:
            decoder.close()

    async def run(self, work: Callable[[DecoderProcess], T], *, owner: str, deadline_s: float) -> T:
        """Call a function that decodes with a process, on a thread; the process is killed when the caller is cancelled.

        Args:
            work: The function.
            owner: The client, of whom one cannot take all places.
            deadline_s: Time in `time.monotonic` seconds until which it waits for a place and for the result.

        Raises:
            OverloadedError: the time is over (`decoders_busy`), or the server is about to stop (`draining`).
            Exception: what `work` raises.
        """
        await self._enter(owner, deadline_s)
        loop, decoder = asyncio.get_running_loop(), self._take_decoder()
        self._busy.add(decoder)
        try:
            job = loop.run_in_executor(self._threads, work, decoder)
        except RuntimeError:  # closed
            self._leave(owner, decoder)
            raise _draining_error() from None

        def finish(done: asyncio.Future[T]) -> None:
            if not done.cancelled():
                done.exception()  # asyncio warns of exceptions that nothing has read
            self._leave(owner, decoder)

        job.add_done_callback(finish)
        try:
            await asyncio.wait({job}, timeout=max(deadline_s - time.monotonic(), 0.0))
        finally:
            if not job.done():
                decoder.kill()
        if not job.done():
            raise _busy_error()
        try:
            return job.result()
        except DecoderKilled:
            raise _draining_error() from None

    def close(self) -> None:
        """Kill all processes; work that uses one, or waits for one, ends with `draining`. From any thread, more than once."""
        self._is_closed = True
        for decoder in list(self._busy):
            decoder.kill()
        while self._idle:
            self._idle.pop().close()
        for _, turn in list(self._waiting):
            turn.get_loop().call_soon_threadsafe(_refuse, turn)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _make_decoder(self) -> DecoderProcess:
        return DecoderProcess(self._decode_timeout_s, self._command)

    def _take_decoder(self) -> DecoderProcess:
        while self._idle:
            decoder = self._idle.pop()
            if decoder.is_usable:
                return decoder
            decoder.close()
        return self._make_decoder()

    async def _enter(self, owner: str, deadline_s: float) -> None:
        """Take a place, or wait for one."""
        if self._is_closed:
            raise _draining_error()
        if self._may_enter(owner):  # then no client that came before may
            self._held[owner] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (owner, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(max(deadline_s - time.monotonic(), 0.0)):
                await turn
        except BaseException as fault:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(owner)  # its turn came at the same moment
            if isinstance(fault, TimeoutError):
                raise _busy_error() from None
            raise
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _may_enter(self, owner: str) -> bool:
        return self.num_busy < self._size and self._held[owner] < max(self._size - 1, 1)

    def _leave(self, owner: str, decoder: DecoderProcess) -> None:
        self._busy.discard(decoder)
        if decoder.is_usable and not self._is_closed and len(self._idle) < self._size:
            self._idle.append(decoder)
        else:
            decoder.close()
        self._give_back(owner)

    def _give_back(self, owner: str) -> None:
        """Free a place, and give it to the first who may take it."""
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        for next_owner, turn in self._waiting:
            if not turn.done() and self._may_enter(next_owner):
                self._held[next_owner] += 1
                turn.set_result(None)
                return


def _refuse(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(_draining_error())


def _busy_error() -> OverloadedError:
    return OverloadedError(
        "the server's decoders are busy",
        "the pictures to be decoded within the request's deadline",
        "try again later",
        retry_after_s=1,
        code="decoders_busy",
    )


def _draining_error() -> OverloadedError:
    return OverloadedError(
        "the server is about to stop", "another server", "try again", retry_after_s=5, code="draining"
    )
