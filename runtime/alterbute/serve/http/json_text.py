"""Strict JSON from clients: bounded before it is parsed, and with long strings left where they are in the body."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from alterbute.serve.http.error_response import ApiError, bad_request

if TYPE_CHECKING:
    from alterbute.serve.http.limits import Reservation

MAX_TEXT_BYTES: Final = 64 << 10
"""Most bytes of a field's text; a longer JSON string can only be a file in base64."""
_MAX_QUOTES: Final = 50_000
_MAX_DEPTH: Final = 32
_MAX_NUMBER_CHARS: Final = 64
_BYTES_PER_VALUE: Final = 96
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """Limits on a JSON text.

    Args:
        text_bytes: Most bytes besides strings of over 64 KiB.
        values: Most values, in lists and objects together.
        containers: Most lists and objects.
        advice: What a client should send instead of more.
    """

    text_bytes: int
    values: int
    containers: int
    advice: str


@dataclass(frozen=True, slots=True)
class LongText:
    """A JSON string of over 64 KiB: its bytes between the quotes, with escapes; a view of the body, not a copy."""

    raw: memoryview


Json: TypeAlias = "bool | int | float | str | LongText | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """A JSON text in which each long string is the word NaN, which JSON does not have, and those strings in their order."""

    text: bytes
    strings: list[LongText]


def read_json(data: bytes, limits: JsonLimits, memory: Reservation) -> Json:
    """Parse strict JSON: UTF-8 without byte-order mark, no key twice, finite numbers; slow, so it is called on a thread.

    `json.loads` holds Python's lock from start to end. Therefore strings of over 64 KiB are not passed to it, and what remains is
    limited before.

    Args:
        data: The JSON text.
        limits: Its limits.
        memory: Reservation of the request, which grows by what the values take.

    Raises:
        ApiError: the data is not such JSON (400), or over a limit (413).
        OverloadedError: the memory budget is used up.
    """
    skeleton, num_values = _cut_long_strings(data, limits)
    is_ascii = skeleton.text.isascii()
    memory.take(num_values * _BYTES_PER_VALUE + len(skeleton.text) * (1 if is_ascii else 4))
    strings = iter(skeleton.strings)
    try:
        parsed: Json = json.loads(
            skeleton.text.decode(),
            object_pairs_hook=_make_object,
            parse_int=_parse_int,
            parse_float=_parse_float,
            parse_constant=lambda word: next(strings) if word == "NaN" else _refuse(),
        )
    except (ValueError, RecursionError):
        _refuse()
    return parsed


def _cut_long_strings(data: bytes, limits: JsonLimits) -> tuple[_Skeleton, int]:
    """Cut long strings out of a JSON text, and check the rest; returns that rest and the number of its values."""
    if data.count(b'"') > _MAX_QUOTES:
        raise _size_error(f"over {_MAX_QUOTES} quotation marks", limits)
    view = memoryview(data)
    strings: list[LongText] = []
    texts: list[bytes | memoryview] = []
    outside: list[memoryview] = []
    text_start = outside_start = 0
    for start, end in _find_strings(data):
        outside.append(view[outside_start:start])
        outside_start = end
        if end - start - 2 > MAX_TEXT_BYTES:
            strings.append(LongText(view[start + 1 : end - 1]))
            texts += [view[text_start:start], b"NaN"]
            text_start = end
    outside.append(view[outside_start:])
    texts.append(view[text_start:])
    if sum(map(len, texts)) > limits.text_bytes:
        raise _size_error(f"over {limits.text_bytes >> 20} MiB besides long strings", limits)
    return _Skeleton(b"".join(texts), strings), _check_structure(b"".join(outside), limits)


def _check_structure(outside: bytes, limits: JsonLimits) -> int:
    """Check the JSON's characters outside of strings; returns the number of values, or one or two too many."""
    if b"N" in outside or b"I" in outside:  # NaN and Infinity
        _refuse()
    num_containers = outside.count(b"[") + outside.count(b"{")
    if num_containers > limits.containers:
        raise _size_error(f"{num_containers} lists and objects; expected at most {limits.containers}", limits)
    num_values = num_containers + outside.count(b",") + 1
    if num_values > limits.values:
        raise _size_error(f"over {limits.values} values", limits)
    depth = 0
    for bracket in outside.translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > _MAX_DEPTH:
            raise bad_request(f"the JSON is nested more than {_MAX_DEPTH} deep; send it flat", None, "invalid_json")
    return num_values


def _find_strings(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each string in a JSON text, quotes included."""
    start = data.find(b'"')
    while start >= 0:
        last, end = start, data.find(b'"', start + 1)
        while end >= 0 and _is_escaped(data, last, end):
            last, end = end, data.find(b'"', end + 1)
        if end < 0:
            _refuse()
        yield start, end + 1
        start = data.find(b'"', end + 1)


def _is_escaped(data: bytes, last: int, end: int) -> bool:
    """Whether an odd number of backslashes is before the quote at `end`; the quote before that is at `last`."""
    if data[end - 1] != 0x5C:
        return False
    before = data[max(last + 1, end - MAX_TEXT_BYTES) : end]
    num_backslashes = len(before) - len(before.rstrip(b"\\"))
    if num_backslashes == MAX_TEXT_BYTES:
        _refuse()
    return num_backslashes % 2 == 1


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise bad_request(
                    "a key of the JSON is given twice; send it once", printable_name(key), "duplicate_field"
                )
            seen.add(key)
    return made


def _parse_int(text: str) -> int:
    _check_number(text)
    return int(text)


def _parse_float(text: str) -> float:
    _check_number(text)
    value = float(text)
    if not math.isfinite(value):
        raise bad_request("a number of the JSON is too large for 64 bits; send a finite one", None, "invalid_json")
    return value


def _check_number(text: str) -> None:
    if len(text) > _MAX_NUMBER_CHARS:
        raise bad_request(f"a number of the JSON has more than {_MAX_NUMBER_CHARS} characters", None, "invalid_json")


def _refuse() -> NoReturn:
    raise bad_request(
        "the body is not valid JSON; expected UTF-8 without a byte-order mark", None, "invalid_json"
    ) from None


def _size_error(seen: str, limits: JsonLimits) -> ApiError:
    return ApiError(413, f"the JSON has {seen}; {limits.advice}", "json_too_large", retry=False, reason="too_large")


def printable_name(name: str) -> str:
    """A field name from a client in a form that is safe in messages: at most 64 printable characters."""
    return "".join(char if char.isprintable() else "?" for char in name[:64])
