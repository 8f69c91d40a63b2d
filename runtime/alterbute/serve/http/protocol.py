"""uvicorn's HTTP/1.1 protocol with limits on clients that send slowly or in tiny chunks."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

# A chunked body with more than one line end per this many bytes consists of chunk headers.
_LINE_BYTES: Final = 8
_MIN_CHECKED_BYTES: Final = 1024
_PIECE_BYTES: Final = 16 << 10


class HttpProtocol(H11Protocol):
    """A connection; it is closed when its headers do not come in time."""

    header_timeout_s: float = 10.0
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        # In pieces, so that the headers are parsed before much of a body.
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            if self.transport.is_closing():
                return
            if self._is_tiny_chunks(piece):
                self.send_400_response("Too many tiny chunks.")
                return
            super().data_received(piece)
        if self.cycle is not None and not self.cycle.response_complete and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
        super().connection_lost(exc)

    def _is_tiny_chunks(self, data: bytes) -> bool:
        """Whether a body's chunks are too small: a million one-byte chunks keep the event loop busy for seconds."""
        if self.cycle is None or self.cycle.response_started or len(data) < _MIN_CHECKED_BYTES:
            return False
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return is_chunked and data.count(b"\r\n") * _LINE_BYTES > len(data)

    def _wait_for_headers(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
