"""A response that is sent in pieces, as fast as the client takes them, and whose memory is reserved until then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from alterbute.serve.http.limits import Reservation

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


Part: TypeAlias = "bytes | NDArray[np.uint8]"
"""A part of a response: bytes, or an array whose values are written as JSON numbers with commas between them."""

Runner: TypeAlias = "Callable[[Callable[[], bytes | None]], Awaitable[bytes | None]]"

_PIECE_BYTES: Final = 256 << 10
_PIECE_VALUES: Final = 1 << 18
_MAX_CHARS: Final = 4
_NUMBERS: Final = np.frombuffer(b"".join(b"%-4s" % (b"%d," % value) for value in range(256)), np.uint8).reshape(256, 4)
_LENGTHS: Final = np.array([len(b"%d," % value) for value in range(256)], np.uint8)


class PartsResponse(Response):
    """A response made of parts, as JSON unless the headers have another content type; it holds the request's memory until its end.

    UINT8 arrays are written as JSON numbers while they are sent: 12 megapixels are 130 MB of text.

    Args:
        parts: The parts.
        run: Runs a function on a thread of the pool.
        memory: The request's reservation, which is released when the response is sent.
        headers: Response headers.
    """

    media_type = "application/json"

    def __init__(self, parts: Iterable[Part], *, run: Runner, memory: Reservation, headers: Mapping[str, str]) -> None:
        self._parts, self._run, self._memory = tuple(parts), run, memory
        super().__init__(headers={**headers, "content-length": str(count_bytes(self._parts))})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for part in self._parts:
                async for piece in self._cut(part):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._memory.release()

    async def _cut(self, part: Part) -> AsyncIterator[bytes]:
        if isinstance(part, bytes):
            for start in range(0, len(part), _PIECE_BYTES):
                yield part[start : start + _PIECE_BYTES]
            return
        numbers = write_numbers(part)
        while (text := await self._run(lambda: next(numbers, None))) is not None:
            yield text


def count_bytes(parts: Iterable[Part]) -> int:
    """Length of parts as they are sent."""
    return sum(len(part) if isinstance(part, bytes) else _count_chars(part) for part in parts)


def write_numbers(array: NDArray[np.uint8]) -> Iterator[bytes]:
    """Write a UINT8 array of at least one value as JSON numbers with commas between them, in pieces."""
    num_left = array.size
    for piece in _split(array):
        num_left -= len(piece)
        is_used = np.arange(_MAX_CHARS) < _LENGTHS[piece][:, None]
        text = _NUMBERS[piece][is_used].tobytes()
        yield text if num_left else text[:-1]


def _count_chars(array: NDArray[np.uint8]) -> int:
    return sum(int(_LENGTHS[piece].sum()) for piece in _split(array)) - 1


def _split(array: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
    flat = array.reshape(-1)
    for start in range(0, len(flat), _PIECE_VALUES):
        yield flat[start : start + _PIECE_VALUES]
