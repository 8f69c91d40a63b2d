"""A request's body: read under limits of size, speed and memory, then split into fields and files."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from alterbute.serve.http.base64_text import decode_base64, unescape_base64
from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.http.json_text import MAX_TEXT_BYTES, Json, JsonLimits, LongText, printable_name, read_json
from alterbute.serve.http.limits import Reservation
from alterbute.serve.http.multipart_body import MAX_FIELDS, MAX_FILES, split_multipart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from alterbute.serve.settings import ServerSettings

Source: TypeAlias = "bytes | NDArray[np.uint8]"
"""A picture as it was sent: a file's bytes, or a uint8 array [H,W], [H,W,3] or [H,W,4]."""

_MANY_CHUNKS: Final = 1000
_TINY_CHUNK_BYTES: Final = 64
_DATA_URL: Final = re.compile(rb"data:image/[a-zA-Z0-9.+-]{1,40};base64,")
_DATA_URL_HEAD_BYTES: Final = 200
_JSON_LIMITS: Final = JsonLimits(
    text_bytes=4 << 20, values=10_000, containers=1000, advice="send the fields of an edit, and pictures as data URLs"
)


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request's fields (JSON values or strings, by name) and pictures (names and data, in the order received)."""

    fields: Mapping[str, Json]
    files: tuple[tuple[str, Source], ...]


class BodyClock:
    """The time that a client has left to send more of its body.

    A bucket of seconds: it starts full, each byte adds the time that it takes at the least rate, and time empties it. As it never
    holds more than `silence_s`, neither silence nor a trickle of bytes lasts longer than that, whatever was sent before.

    Args:
        rate: Least bytes per second.
        silence_s: Seconds that the bucket holds.
        total_s: Seconds for the whole body.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, *, rate: float, silence_s: float, total_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._silence_s, self._clock = rate, silence_s, clock
        self._at_s = clock()
        self._credit_s, self._end_s = silence_s, self._at_s + total_s

    def add(self, size_bytes: int) -> None:
        """Count bytes that have come."""
        now = self._clock()
        credit_s = self._credit_s - (now - self._at_s) + size_bytes / self._rate
        self._credit_s, self._at_s = min(credit_s, self._silence_s), now

    def left_s(self) -> float:
        """Seconds until the client is too slow; 0 or less when it is."""
        now = self._clock()
        return min(self._credit_s - (now - self._at_s), self._end_s - now)


async def read_body(request: Request, settings: ServerSettings, memory: Reservation) -> bytes:
    """Read a request's body.

    Args:
        request: The request.
        settings: Limits on size, speed and number of chunks.
        memory: Reservation that the body's bytes are added to.

    Returns:
        All bytes of the body.

    Raises:
        ApiError: compressed (415), too big (413), too slow (408), of two lengths or sent in far too many tiny chunks (400).
        OverloadedError: the memory budget is used up.
        ClientGone: the client closed the connection.
    """
    limit = int(settings.max_request_mb * 2**20)
    _check_head(request, limit)
    clock = BodyClock(rate=settings.min_body_rate, silence_s=settings.body_silence_s, total_s=settings.timeout_s)
    body, size, num_chunks = io.BytesIO(), 0, 0
    is_more = True
    while is_more:
        try:
            message = await asyncio.wait_for(request.receive(), max(clock.left_s(), 0.001))
        except TimeoutError:
            raise _too_slow_error(settings) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk, is_more = message.get("body", b""), message.get("more_body", False)
        clock.add(len(chunk))
        size, num_chunks = size + len(chunk), num_chunks + 1
        if size > limit:
            raise _too_large_error(limit)
        if num_chunks > _MANY_CHUNKS and size < num_chunks * _TINY_CHUNK_BYTES:
            raise bad_request("the body came in too many tiny chunks", None, "tiny_chunks")
        memory.take(len(chunk))
        body.write(chunk)
    return body.getvalue()


def _check_head(request: Request, limit: int) -> None:
    """Check the headers that describe the body."""
    if any(value.strip().lower() not in ("", "identity") for value in request.headers.getlist("content-encoding")):
        raise ApiError(
            415,
            "the body has a Content-Encoding; expected none: send it uncompressed",
            "unsupported_media_type",
            retry=False,
            reason="bad_request",
        )
    declared = request.headers.get("content-length", "")
    if declared and "transfer-encoding" in request.headers:
        raise bad_request(
            "the request has Content-Length and Transfer-Encoding; expected one of them", None, "two_lengths"
        )
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large_error(limit)


def split_body(data: bytes, content_type: str, settings: ServerSettings, memory: Reservation) -> Body:
    """Split a body into fields and files; slow for large bodies, so it is called on a thread of the pool.

    Args:
        data: The body.
        content_type: The `Content-Type` header: multipart/form-data or application/json.
        settings: Limit on the size of a file.
        memory: Reservation of the request, which grows by what JSON values take.

    Raises:
        ApiError: not multipart or JSON, malformed, or over a limit.
        OverloadedError: the memory budget is used up.
    """
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    max_file = int(settings.max_file_mb * 2**20)
    if kind == "multipart/form-data":
        fields, files = split_multipart(data, rest, max_file)
        return Body(fields=fields, files=tuple(files))
    if kind == "application/json":
        return _split_json(read_json(data, _JSON_LIMITS, memory), max_file)
    raise ApiError(
        415,
        "the body is neither multipart/form-data nor application/json",
        "unsupported_media_type",
        retry=False,
        reason="bad_request",
    )


def _split_json(parsed: Json, max_file: int) -> Body:
    if not isinstance(parsed, dict):
        raise bad_request("the JSON body is not an object", None, "invalid_json")
    if len(parsed) > MAX_FIELDS:
        raise bad_request(f"there are more than {MAX_FIELDS} fields", None, "too_many_fields")
    fields = dict(parsed)
    files: list[tuple[str, bytes]] = []
    images = fields.pop("images", [])
    if not isinstance(images, list) or len(images) > MAX_FILES:
        raise bad_request(f"images is not a list of at most {MAX_FILES}", "images")
    files += [("image", _read_data_url(entry, "images", max_file)) for entry in images]
    for name in ("mask", "reference", "reference_mask", "protect"):
        if fields.get(name) is not None:
            files.append((name, _read_data_url(fields[name], name, max_file)))
        fields.pop(name, None)
    for name, value in fields.items():
        if isinstance(value, LongText):
            message = f"a field is over {MAX_TEXT_BYTES} bytes; shorten it"
            raise ApiError(413, message, "field_too_large", printable_name(name), reason="too_large")
    return Body(fields=fields, files=tuple(files))


def _read_data_url(entry: Json, param: str, max_file: int) -> bytes:
    """Decode the picture file of `{"image_url": "data:..."}`; other URLs are refused, nothing is fetched."""
    if (
        not isinstance(entry, dict)
        or len(entry) != 1
        or not isinstance(url := next(iter(entry.values())), str | LongText)
    ):
        raise bad_request(f'{param} needs {{"image_url": "data:image/...;base64,..."}}', param)
    if "file_id" in entry:
        raise bad_request("this server keeps no files: send the picture as a data URL", param, "file_id_unsupported")
    if "image_url" not in entry:
        raise bad_request("the only known key is image_url", param)
    is_long = isinstance(url, LongText)
    text = url.raw if isinstance(url, LongText) else memoryview(url.encode("utf-8", "surrogatepass"))
    head, comma, _ = bytes(text[:_DATA_URL_HEAD_BYTES]).partition(b",")
    plain_head = unescape_base64(head + comma) if is_long else head + comma
    if _DATA_URL.fullmatch(plain_head) is None:
        if plain_head[:8].lower().startswith((b"http:", b"https:", b"file:", b"ftp:")):
            raise bad_request(
                "this server fetches nothing: send the picture as a data URL", param, "remote_url_not_allowed"
            )
        raise bad_request("image_url is not data:image/...;base64,...", param, "invalid_data_url")
    try:
        data = decode_base64(text[len(head) + 1 :], is_json=is_long)
    except ValueError:
        raise bad_request("the data URL is not base64", param, "invalid_data_url") from None
    if len(data) > max_file:
        raise ApiError(413, f"the picture is over {max_file} bytes", "file_too_large", param, reason="too_large")
    return data


def _too_slow_error(settings: ServerSettings) -> ApiError:
    return ApiError(
        408,
        f"the body came too slowly; expected {settings.min_body_rate:g} bytes a second, no silence of "
        f"{settings.body_silence_s:g} s, and its end within {settings.timeout_s:g} s; send it faster",
        "client_too_slow",
        retry=True,
        retry_after_s=1,
        reason="bad_request",
    )


def _too_large_error(limit: int) -> ApiError:
    return ApiError(413, f"the body is over {limit} bytes", "body_too_large", retry=False, reason="too_large")
