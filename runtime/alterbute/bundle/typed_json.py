"""Strict conversion between JSON and dataclasses: a wrong, missing or unknown key is an error that names the key."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from alterbute.bundle.strict_json import Json

Record = TypeVar("Record")


class KeyFault(ValueError):
    """A key of a document is wrong.

    Args:
        key: Dotted path of the key.
        seen: Its value, as shown in messages.
        expected: The values that are accepted.
    """

    def __init__(self, key: str, seen: str, expected: str) -> None:
        super().__init__(key, seen, expected)
        self.key, self.seen, self.expected = key, seen, expected


def build(kind: type[Record], value: Json, key: str = "") -> Record:
    """Build a dataclass from a JSON object and check every field against its type hint; fields with a default may be missing.

    Args:
        kind: The dataclass.
        value: The parsed JSON value.
        key: Dotted path of the value in its document, for messages; "" at the top.

    Raises:
        KeyFault: a key is missing, unknown, or of another type than its hint.
    """
    return cast(Record, _convert(kind, value, key))


def dump(record: object) -> str:
    """Format a dataclass as indented JSON, with the fields in declared order."""
    return json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False) + "\n"  # type: ignore[call-overload]


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint == Json:
        return value
    if dataclasses.is_dataclass(hint):
        return _convert_record(hint, value, key)
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, key)
    if origin is Literal:
        if type(value) is str and value in args:
            return value
        raise KeyFault(key, _format_value(value), " or ".join(map(repr, args)))
    if origin is tuple:
        items = _expect(list, value, key, "a list")
        return tuple(_convert(args[0], item, f"{key}[{index}]") for index, item in enumerate(items))
    if origin is Mapping:
        fields = _expect(dict, value, key, "an object")
        return {name: _convert(args[1], item, _join(key, name)) for name, item in fields.items()}
    if hint is float:
        return _convert_float(value, key)
    return _expect(hint, value, key, {int: "an integer", str: "a string", bool: "true or false"}[hint])


def _convert_float(value: Any, key: str) -> float:
    number = _expect((int, float), value, key, "a number")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise KeyFault(key, _format_value(value), "a finite number")
    return number


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


@lru_cache
def _describe_record(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Type hints of a dataclass's fields, and names of those with a default; resolving hints is slow, so once per class."""
    return get_type_hints(kind), frozenset(field.name for field in dataclasses.fields(kind) if _has_default(field))


def _convert_record(kind: Any, value: Any, key: str) -> Any:
    fields = _expect(dict, value, key, "an object")
    hints, optional = _describe_record(kind)
    for name in hints.keys() - fields.keys() - optional:
        raise KeyFault(_join(key, name), "missing", "it to be there")
    for name in fields.keys() - hints.keys():
        raise KeyFault(_join(key, name), "an unknown key", f"only {', '.join(sorted(hints))}")
    present = {name: hint for name, hint in hints.items() if name in fields}
    return kind(**{name: _convert(hint, fields[name], _join(key, name)) for name, hint in present.items()})


def _convert_union(hints: tuple[Any, ...], value: Any, key: str) -> Any:
    faults = []
    for hint in hints:
        if hint is types.NoneType:
            if value is None:
                return None
            continue
        try:
            return _convert(hint, value, key)
        except KeyFault as fault:
            faults.append(fault)
    # The alternative that failed deepest names the wrong key most precisely: `attributes.color[2]` rather than `attributes`.
    raise max(faults, key=lambda fault: len(fault.key))


def _expect(classes: Any, value: Any, key: str, expected: str) -> Any:
    # bool is an int in Python, not in JSON.
    if isinstance(value, classes) and (not isinstance(value, bool) or classes is bool):
        return value
    raise KeyFault(key, _format_value(value), expected)


def _format_value(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
