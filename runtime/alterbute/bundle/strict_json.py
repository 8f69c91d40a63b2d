"""JSON that every parser reads alike: what parsers disagree about is refused, and work and depth are bounded.

The same rules hold in the C++ runtime, so that a document cannot mean one thing to one reader and another to the next.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, TypeAlias

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**53 - 1
"""The largest integer that a parser with doubles reads exactly."""
_MAX_NUMBER: Final = 64
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: bytes, *, max_depth: int = MAX_DEPTH) -> Json:
    """Parse one JSON value.

    Refused, besides what is no JSON: bytes that are not UTF-8 or start with a byte order mark, a key given twice, NaN, infinity
    and numbers that become either, numbers that round to 0, integers beyond 2^53 - 1, numbers of more than 64 characters, half
    surrogate pairs, and deep nesting.

    Args:
        text: The document.
        max_depth: Most containers inside one another; `{}` is one.

    Raises:
        ValueError: the document is refused; the message is one line.
    """
    try:
        document = text.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise ValueError(f"byte {fault.start} is not UTF-8") from None
    if document.startswith("\ufeff"):
        raise ValueError("it starts with a byte order mark")
    try:
        value: Json = json.loads(
            document,
            object_pairs_hook=_make_record,
            parse_constant=_refuse_constant,
            parse_int=_read_integer,
            parse_float=_read_float,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value, max_depth)
    if _SURROGATE_ESCAPE.search(document):
        _check_surrogates(value)
    return value


_TOO_DEEP: Final = "the nesting is too deep"


def _make_record(items: list[tuple[str, Json]]) -> dict[str, Json]:
    record = dict(items)
    if len(record) != len(items):
        raise ValueError("a key is given twice")
    return record


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _read_integer(digits: str) -> int:
    # 17 characters hold a sign and 2^53; Python refuses to read thousands of digits.
    if len(digits) > 17 or abs(number := int(digits)) > MAX_INTEGER:
        raise ValueError(f"the integer {digits[:24]} is beyond 2^53 - 1")
    return number


def _read_float(digits: str) -> float:
    if len(digits) > _MAX_NUMBER:
        raise ValueError(f"the number {digits[:24]}... has {len(digits)} characters")
    number = float(digits)
    is_zero = not any(digit in "123456789" for digit in digits.lower().partition("e")[0])
    if not math.isfinite(number) or (number == 0 and not is_zero):
        raise ValueError(f"the number {digits[:24]} is out of range")
    return number


def _check_depth(value: Json, max_depth: int) -> None:
    """Level by level; a document of many small lists costs one pass over them."""
    level: list[Any] = [value] if isinstance(value, list | dict) else []
    for _ in range(max_depth):
        if not level:
            return
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | dict)
        ]
    if level:
        raise ValueError(_TOO_DEEP)


def _check_surrogates(value: Json) -> None:
    waiting: list[Any] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError:
                raise ValueError("a string holds half of a surrogate pair") from None
        elif isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part
