"""A bounded reader of protobuf's wire format: fields of a message, without copies and without a schema.

Only what is looked at is read; everything else is skipped by its length. Format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_FIELDS: Final = 1_000_000
_MAX_TAG: Final = 2**32 - 1
_MAX_VARINT_BYTES: Final = 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Span:
    """A message or string within a document: bytes `start` up to `end`."""

    start: int
    end: int


class Document:
    """The bytes of a document, and how many fields of it may still be read.

    Args:
        data: The bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = MAX_FIELDS

    @property
    def span(self) -> Span:
        """The whole document."""
        return Span(0, len(self.data))

    def fields(self, span: Span) -> Iterator[tuple[int, Span | int]]:
        """Yield number and value of each field: an integer, or the span of a string or message; fixed-size values are 0.

        Raises:
            ValueError: the bytes are malformed, or too many fields were read.
        """
        data, at, end = self.data, span.start, span.end
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {MAX_FIELDS} fields")
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = self._varint(at - 1, end)
            number, wire = tag >> 3, tag & 7
            if not number or tag > _MAX_TAG:
                raise ValueError(f"byte {at} is no field")
            if wire in (_BYTES, _VARINT):
                # One byte, the most frequent case, without a call.
                value = data[at] if at < end else 128
                at += 1
                if value > 127:
                    value, at = self._varint(at - 1, end)
                if wire == _VARINT:
                    yield number, value
                    continue
                if value > end - at:
                    raise ValueError(f"a field at byte {at} ends behind its message")
                yield number, Span(at, at + value)
                at += value
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
                if at > end:
                    raise ValueError("a number ends behind its message")
                yield number, 0
            else:
                raise ValueError(f"byte {at} has the wire type {wire}")

    def message(self, span: Span, names: dict[int, str]) -> dict[str, Span | int]:
        """The named fields of a message, of which each may occur once.

        Args:
            span: The message.
            names: Name by field number; a name in capitals is an integer's, others are those of strings and messages.

        Raises:
            ValueError: a named field occurs twice or has another wire type, or the bytes are malformed.
        """
        found: dict[str, Span | int] = {}
        for number, value in self.fields(span):
            name = names.get(number)
            if name is None:
                continue
            if name in found or isinstance(value, int) != name.isupper():
                raise ValueError(f"the field `{name.lower()}` is given twice, or has another type")
            found[name] = value
        return found

    def text(self, value: Span | int | None) -> str:
        """The text of a string's span; "" for a field that is not there.

        Raises:
            ValueError: the bytes are not UTF-8, or there are more than 4,096.
        """
        if not isinstance(value, Span):
            return ""
        if value.end - value.start > 4096:
            raise ValueError(f"a name of {value.end - value.start} bytes")
        return self.data[value.start : value.end].decode()

    def has(self, text: bytes, span: Span) -> bool:
        """Whether these bytes occur anywhere in a span."""
        return self.data.find(text, span.start, span.end) >= 0

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for index in range(min(_MAX_VARINT_BYTES, end - at)):
            byte = self.data[at + index]
            value |= (byte & 127) << (7 * index)
            if byte < 128:
                return value & (2**64 - 1), at + index + 1
        raise ValueError(f"the number at byte {at} does not end")
