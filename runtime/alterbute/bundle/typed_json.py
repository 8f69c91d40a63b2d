"""Strict conversion between JSON and dataclasses: a wrong, missing or unknown key is an error that names the key."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None


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


def parse(text: bytes) -> Json:
    """Parse JSON to plain values; duplicate keys, NaN and very deep nesting raise ValueError."""

    def make_record(items: list[tuple[str, Json]]) -> dict[str, Json]:
        record = dict(items)
        if len(record) != len(items):
            raise ValueError("a key is given twice")
        return record

    def refuse_constant(name: str) -> float:
        raise ValueError(f"{name} is not a JSON number")

    try:
        value: Json = json.loads(text, object_pairs_hook=make_record, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("the nesting is too deep") from None
    return value


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
        return float(_expect((int, float), value, key, "a number"))
    return _expect(hint, value, key, {int: "an integer", str: "a string", bool: "true or false"}[hint])


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _convert_record(kind: Any, value: Any, key: str) -> Any:
    fields = _expect(dict, value, key, "an object")
    hints = get_type_hints(kind)
    optional = {field.name for field in dataclasses.fields(kind) if _has_default(field)}
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
