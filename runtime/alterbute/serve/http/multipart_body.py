"""A multipart/form-data body, split into fields and files under limits of number, size and time."""

from __future__ import annotations

import io
import time
from typing import Final

from alterbute.serve.http.error_response import ApiError, bad_request
from alterbute.serve.http.json_text import MAX_TEXT_BYTES, printable_name

MAX_FILES: Final = 4
MAX_FIELDS: Final = 40
_MAX_PART_HEADER_BYTES: Final = 8 << 10
_MAX_BOUNDARY_BYTES: Final = 200
_PIECE_BYTES: Final = 64 << 10
# CPU seconds that a body may take, and for each MiB: several times what any file takes, line ends only included.
_MAX_SECONDS: Final = 0.25
_MAX_SECONDS_PER_MIB: Final = 0.01


def split_multipart(data: bytes, parameters: str, max_file: int) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    """Split a body into fields, and files with their names in the order received.

    Args:
        data: The body.
        parameters: Parameters of its content type, such as `boundary=x`.
        max_file: Most bytes of a file.

    Raises:
        ApiError: malformed, or over a limit.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(f"multipart/form-data;{parameters}")[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise bad_request("the multipart body has no boundary", None, "invalid_multipart")
    parts = _Parts(max_file)
    until_s = time.thread_time() + _MAX_SECONDS + _MAX_SECONDS_PER_MIB * len(data) / 2**20
    try:
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
        for start in range(0, len(data), _PIECE_BYTES):
            parser.write(data[start : start + _PIECE_BYTES])
            if parts.is_whole:
                break  # what follows the last boundary is no part of the form
            if time.thread_time() > until_s:
                message = "the multipart body has too many lines that look like its boundary; choose a longer boundary"
                raise bad_request(message, None, "invalid_multipart")
        parser.finalize()
    except FormParserError:
        raise bad_request("the multipart body is malformed", None, "invalid_multipart") from None
    if not parts.is_whole:
        raise bad_request("the multipart body is cut off", None, "invalid_multipart")
    return parts.fields, parts.files


class _Parts:
    """Collects the parts of a multipart body, and checks each limit as it is reached."""

    def __init__(self, max_file: int) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[tuple[str, bytes]] = []
        self.is_whole = False
        self._max_file = max_file
        self.begin()

    def begin(self) -> None:
        self._header_bytes = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._name, self._is_file = "", False
        self._data = io.BytesIO()

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
        limit = self._max_file if self._is_file else MAX_TEXT_BYTES
        if self._data.tell() + end - start > limit:
            raise ApiError(
                413,
                f"{printable_name(self._name)} is over {limit} bytes",
                "file_too_large",
                printable_name(self._name),
                reason="too_large",
            )
        self._data.write(data[start:end])

    def end(self) -> None:
        if self._is_file:
            self.files.append((self._name, self._data.getvalue()))
            return
        if self._name in self.fields:
            raise bad_request("a field is given twice", printable_name(self._name), "duplicate_field")
        try:
            self.fields[self._name] = self._data.getvalue().decode()
        except UnicodeDecodeError:
            raise bad_request("a field is not UTF-8", printable_name(self._name), "invalid_encoding") from None

    def finish(self) -> None:
        self.is_whole = True

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_PART_HEADER_BYTES:
            raise bad_request("a part's headers are too long", None, "invalid_multipart")
