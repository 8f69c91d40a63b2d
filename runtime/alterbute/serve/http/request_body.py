"""A request's body: read under limits of size, speed and memory, then split into fields and files."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.http.limits import Reservation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from alterbute.serve.settings import ServerSettings

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Source: TypeAlias = "bytes | NDArray[np.uint8]"
"""A picture as it was sent: a file's bytes, or a uint8 array [H,W], [H,W,3] or [H,W,4]."""

MAX_FILES: Final = 4
MAX_FIELDS: Final = 40
MAX_FIELD_BYTES: Final = 64 << 10
_MAX_PART_HEADER_BYTES: Final = 8 << 10
_GRACE_S: Final = 10.0
_MANY_CHUNKS: Final = 1000
_TINY_CHUNK_BYTES: Final = 64
_DATA_URL: Final = re.compile(r"data:image/[a-zA-Z0-9.+-]{1,40};base64,")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request's fields (JSON values or strings, by name) and pictures (names and data, in the order received)."""

    fields: Mapping[str, Json]
    files: tuple[tuple[str, Source], ...]


async def read_body(request: Request, settings: ServerSettings, memory: Reservation) -> bytes:
    """Read a request's body.

    Args:
        request: The request.
        settings: Limits on size, speed and number of chunks.
        memory: Reservation that the body's bytes are added to.

    Returns:
        All bytes of the body.

    Raises:
        ApiError: too big (413), too slow (408), or sent in far too many tiny chunks (400).
        OverloadedError: the memory budget is used up.
        ClientGone: the client closed the connection.
    """
    limit = int(settings.max_request_mb * 2**20)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large_error(limit)
    start, size, num_chunks, chunks = time.monotonic(), 0, 0, []
    is_more = True
    while is_more:
        allowed_s = start + _GRACE_S + size / settings.min_body_rate - time.monotonic()
        try:
            message = await asyncio.wait_for(request.receive(), max(allowed_s, 0.001))
        except TimeoutError:
            raise ApiError(
                408, "the body came too slowly", "client_too_slow", retry=True, retry_after_s=1, reason="bad_request"
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk, is_more = message.get("body", b""), message.get("more_body", False)
        size, num_chunks = size + len(chunk), num_chunks + 1
        if size > limit:
            raise _too_large_error(limit)
        if num_chunks > _MANY_CHUNKS and size < num_chunks * _TINY_CHUNK_BYTES:
            raise bad_request("the body came in too many tiny chunks", None, "tiny_chunks")
        memory.take(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def split_body(data: bytes, content_type: str, settings: ServerSettings) -> Body:
    """Split a body into fields and files; slow for large bodies, so it is called on a thread of the pool.

    Args:
        data: The body.
        content_type: The `Content-Type` header: multipart/form-data or application/json.
        settings: Limit on the size of a file.

    Raises:
        ApiError: not multipart or JSON, malformed, or over a limit.
    """
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    max_file = int(settings.max_file_mb * 2**20)
    if kind == "multipart/form-data":
        return _split_multipart(data, rest, max_file)
    if kind == "application/json":
        return _split_json(data, max_file)
    raise ApiError(
        415,
        "the body is neither multipart/form-data nor application/json",
        "unsupported_media_type",
        retry=False,
        reason="bad_request",
    )


def read_json(data: bytes) -> Json:
    """Parse strict JSON: no NaN, no nesting or numbers beyond Python's limits.

    Raises:
        ApiError: the data is not such JSON.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        parsed: Json = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise bad_request("the body is not valid JSON", None, "invalid_json") from None
    return parsed


def _split_multipart(data: bytes, parameters: str, max_file: int) -> Body:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(f"multipart/form-data;{parameters}")[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise bad_request("the multipart body has no boundary", None, "invalid_multipart")
    parts = _Parts(max_file)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_part_data": parts.add_data,
            "on_part_end": parts.end,
            "on_header_field": parts.add_header_name,
            "on_header_value": parts.add_header_value,
            "on_header_end": parts.end_header,
            "on_headers_finished": parts.end_headers,
            "on_end": parts.finish,
        },
    )
    try:
        parser.write(data)
        parser.finalize()
    except FormParserError:
        raise bad_request("the multipart body is malformed", None, "invalid_multipart") from None
    if not parts.is_whole:
        raise bad_request("the multipart body is cut off", None, "invalid_multipart")
    return Body(fields=parts.fields, files=tuple(parts.files))


class _Parts:
    """Collects the parts of a multipart body, and checks each limit as it is reached."""

    def __init__(self, max_file: int) -> None:
        self.fields: dict[str, Json] = {}
        self.files: list[tuple[str, bytes]] = []
        self.is_whole = False
        self._max_file = max_file
        self.begin()

    def begin(self) -> None:
        self._header_bytes = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._name, self._is_file = "", False
        self._data = bytearray()

    def add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def end_header(self) -> None:
        from python_multipart.multipart import parse_options_header

        if bytes(self._header_name).lower() == b"content-disposition":
            options = parse_options_header(bytes(self._header_value))[1]
            try:
                self._name = options.get(b"name", b"").decode()
            except UnicodeDecodeError:
                raise bad_request("a field's name is not UTF-8", None, "invalid_multipart") from None
            self._is_file = b"filename" in options or b"filename*" in options
        self._header_name.clear()
        self._header_value.clear()

    def end_headers(self) -> None:
        if not self._name:
            raise bad_request("a part of the multipart body has no name", None, "invalid_multipart")
        if self._is_file and len(self.files) == MAX_FILES:
            raise bad_request(f"there are more than {MAX_FILES} files", "image", "too_many_files")
        if not self._is_file and len(self.fields) == MAX_FIELDS:
            raise bad_request(f"there are more than {MAX_FIELDS} fields", None, "too_many_fields")

    def add_data(self, data: bytes, start: int, end: int) -> None:
        limit = self._max_file if self._is_file else MAX_FIELD_BYTES
        if len(self._data) + end - start > limit:
            raise ApiError(
                413,
                f"{printable_name(self._name)} is over {limit} bytes",
                "file_too_large",
                printable_name(self._name),
                reason="too_large",
            )
        self._data += data[start:end]

    def end(self) -> None:
        if self._is_file:
            self.files.append((self._name, bytes(self._data)))
            return
        if self._name in self.fields:
            raise bad_request("a field is given twice", printable_name(self._name), "duplicate_field")
        try:
            self.fields[self._name] = self._data.decode()
        except UnicodeDecodeError:
            raise bad_request("a field is not UTF-8", printable_name(self._name), "invalid_encoding") from None

    def finish(self) -> None:
        self.is_whole = True

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_PART_HEADER_BYTES:
            raise bad_request("a part's headers are too long", None, "invalid_multipart")


def _split_json(data: bytes, max_file: int) -> Body:
    parsed = read_json(data)
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
        if isinstance(value, str) and len(value) > MAX_FIELD_BYTES:
            raise ApiError(413, "a field is too long", "field_too_large", printable_name(name), reason="too_large")
    return Body(fields=fields, files=tuple(files))


def _read_data_url(entry: Json, param: str, max_file: int) -> bytes:
    """Decode the picture file of `{"image_url": "data:..."}`; other URLs are refused, nothing is fetched."""
    if not isinstance(entry, dict) or len(entry) != 1 or not isinstance(url := next(iter(entry.values())), str):
        raise bad_request(f'{param} needs {{"image_url": "data:image/...;base64,..."}}', param)
    if "file_id" in entry:
        raise bad_request("this server keeps no files: send the picture as a data URL", param, "file_id_unsupported")
    if "image_url" not in entry:
        raise bad_request("the only known key is image_url", param)
    match = _DATA_URL.match(url[:100])
    if match is None:
        if url[:8].lower().startswith(("http:", "https:", "file:", "ftp:")):
            raise bad_request(
                "this server fetches nothing: send the picture as a data URL", param, "remote_url_not_allowed"
            )
        raise bad_request("image_url is not data:image/...;base64,...", param, "invalid_data_url")
    if (len(url) - match.end()) * 3 // 4 > max_file:
        raise ApiError(413, f"the picture is over {max_file} bytes", "file_too_large", param, reason="too_large")
    try:
        return base64.b64decode(url[match.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise bad_request("the data URL is not base64", param, "invalid_data_url") from None


def printable_name(name: str) -> str:
    """A field name from a client in a form that is safe in messages: at most 64 printable characters."""
    return "".join(char if char.isprintable() else "?" for char in name[:64])


def _too_large_error(limit: int) -> ApiError:
    return ApiError(413, f"the body is over {limit} bytes", "body_too_large", retry=False, reason="too_large")
