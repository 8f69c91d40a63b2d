"""uvicorn's HTTP/1.1 protocol with limits on connections, and on clients that send slowly, in tiny chunks or ambiguously."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from alterbute.serve.http.connections import ConnectionTable, address_group
from alterbute.serve.http.error_response import ApiError
from alterbute.serve.http.lingering import LingeringTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PIECE_BYTES: Final = 16 << 10
# Sizes, extensions and line ends of a chunked body: so many bytes, and one for so many bytes of the body.
_FREE_OVERHEAD_BYTES: Final = 16 << 10
_BODY_BYTES_PER_OVERHEAD: Final = 8
_CLOSE: Final = (b"connection", b"close")
_TOO_MANY: Final = ApiError(
    503, "there are too many connections; close some, or try again", "too_many_connections", retry=True, retry_after_s=1
)


class HttpProtocol(H11Protocol):
    """A connection; it is closed when its headers do not come in time, or when what follows a request is not certain."""

    header_timeout_s: float = 10.0
    table: ConnectionTable
    on_refuse: Callable[[], None]
    _header_timer: asyncio.TimerHandle | None = None
    _address: str | None = None
    _is_malformed = False
    _num_body = 0
    _num_overhead = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        address = address_group(peer[0] if isinstance(peer, tuple) else None)
        if not self.table.add(address):
            self.on_refuse()
            transport.write(_refusal())
            transport.close()
            return
        self._address = address
        inner_app, self.app = self.app, self._answer
        self._inner_app: ASGIApp = inner_app
        super().connection_made(LingeringTransport(transport, self.header_timeout_s, self._has_unread))  # type: ignore[arg-type]
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        # In pieces, so that the headers are parsed before much of a body.
        for start in range(0, len(data), _PIECE_BYTES):
            if self.transport.is_closing():
                return
            self._receive_piece(data[start : start + _PIECE_BYTES])
        if self.cycle is not None and not self.cycle.response_complete and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request; what it has sent of a body is given up at once."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        self._is_malformed = True
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._address is None:
            return
        self.table.remove(self._address)
        self._address = None
        if self._header_timer is not None:
            self._header_timer.cancel()
        super().connection_lost(exc)
        self.transport.on_lost()  # type: ignore[attr-defined]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; the connection of a request whose end is not certain closes after the response."""
        cycle = self.cycle
        names = {name for name, _ in scope["headers"]}
        has_two_lengths = b"content-length" in names and b"transfer-encoding" in names

        async def send_closing(message: Message) -> None:
            # RFC 9112, section 6.1: two lengths must end the connection. A body that the server did not read has no certain
            # end either: the client may keep it to itself (Expect: 100-continue).
            if message["type"] == "http.response.start" and (has_two_lengths or cycle.more_body):
                headers = [pair for pair in message.get("headers", []) if pair[0].lower() != b"connection"]
                message = {**message, "headers": [*headers, _CLOSE]}
            await send(message)

        await self._inner_app(scope, receive, send_closing)

    def _receive_piece(self, piece: bytes) -> None:
        cycle = self.cycle
        is_in_body = cycle is not None and cycle.more_body and not cycle.response_complete
        num_before = len(cycle.body) if is_in_body else 0
        super().data_received(piece)
        if not is_in_body:
            self._num_body = self._num_overhead = 0
            return
        num_body = len(cycle.body) - num_before
        self._num_body += num_body
        self._num_overhead += len(piece) - num_body
        allowed = _FREE_OVERHEAD_BYTES + self._num_body // _BODY_BYTES_PER_OVERHEAD
        if cycle is self.cycle and self._num_overhead > allowed and not self.transport.is_closing():
            self.send_400_response("Too many tiny chunks.")

    def _has_unread(self) -> bool:
        return self._is_malformed or self.cycle is None or self.cycle.more_body or not self.cycle.response_complete

    def _wait_for_headers(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
        self._header_timer = self.loop.call_later(self.header_timeout_s, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close_now()  # type: ignore[attr-defined]


def _refusal() -> bytes:
    body = json.dumps(_TOO_MANY.body()).encode()
    headers = {**_TOO_MANY.headers(), "content-type": "application/json", "content-length": str(len(body))}
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def make_protocol(header_timeout_s: float, table: ConnectionTable, on_refuse: Callable[[], None]) -> type[Any]:
    """Make the class of a port's connections.

    Args:
        header_timeout_s: Seconds that a client has to send its headers.
        table: Counts the port's connections.
        on_refuse: Called for each connection that is refused.
    """
    members = {"header_timeout_s": header_timeout_s, "table": table, "on_refuse": staticmethod(on_refuse)}
    return type("Protocol", (HttpProtocol,), members)
