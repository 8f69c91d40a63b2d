"""A transport that lets a client read its response although the server read only a part of its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class LingeringTransport:
    """A connection's transport whose `close` waits, for some seconds at most, until the client closes.

    A socket that is closed with bytes unread is reset, and a reset may discard the response before the client has read it. A client
    that does not read its response is disconnected after the same seconds.

    Args:
        transport: The transport.
        seconds: The longest wait.
        has_unread: Whether more of a request may come.
    """

    def __init__(self, transport: asyncio.Transport, seconds: float, has_unread: Callable[[], bool]) -> None:
        self._transport, self._seconds, self._has_unread = transport, seconds, has_unread
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether the transport is closed, or only waits for the client."""
        return self._timer is not None or bool(self._transport.is_closing())

    def close(self) -> None:
        """Close after all is written; where more of a request may come, first wait for the client."""
        if self.is_closing() or not self._has_unread():
            self.close_now()
            return
        self._abort_later()
        self._transport.write_eof()
        self._transport.resume_reading()

    def close_now(self) -> None:
        """Close after all is written, but do not wait longer for a client that does not read it."""
        self._abort_later()
        self._transport.close()

    def on_lost(self) -> None:
        """The connection is lost: there is nothing to wait for."""
        if self._timer is not None:
            self._timer.cancel()

    def _abort_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)
