"""Parts of a mask that an annotation document describes, and checks and messages that all formats share."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from alterbute.errors import InputError
from alterbute.images.masks.shapes import MAX_COORDINATE, polygon_mask, shorten
from alterbute.images.photo import Bytes

_MAX_MASKS: Final = 256
_MAX_LISTED: Final = 8

Corners: TypeAlias = list[tuple[float, float]]
Entry: TypeAlias = dict[object, object]


class AnnotationParts:
    """The parts of an annotation: masks are united at once, polygons when all are there.

    Args:
        size: Width and height of the photo.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.polygons: list[Corners] = []
        self._united = np.zeros((size[1], size[0]), np.uint8)
        self._num_masks = 0

    def add_mask(self, mask: Bytes, left: int = 0, top: int = 0) -> None:
        """Unite a mask that lies inside the photo.

        Args:
            mask: hw uint8.
            left: Its first column in the photo.
            top: Its first row in the photo.
        """
        self._num_masks += 1
        if self._num_masks > _MAX_MASKS:
            raise annotation_error(
                f"has over {_MAX_MASKS} masks with this key", "too_large", "fewer", "choose one by its number"
            )
        place = self._united[top : top + mask.shape[0], left : left + mask.shape[1]]
        np.maximum(place, mask, out=place)

    def unite(self) -> Bytes:
        """The mask of all parts, HW uint8."""
        if not self.polygons:
            return self._united
        try:
            drawn = polygon_mask(self.size, self.polygons)
        except InputError as fault:
            raise annotation_error(f"is refused: {fault.seen}", fault.code, fault.expected, "correct it") from None
        return np.maximum(self._united, drawn, out=self._united)


def list_entries(document: Entry, name: str) -> list[Entry]:
    """The objects in a list of the document; only `images` and `categories` may be missing or empty."""
    value, is_optional = document.get(name), name in ("images", "categories")
    if value is None and is_optional:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise annotation_error(f"has {name} that are {describe_value(value)}", "bad_structure", "a list of objects")
    if not value and not is_optional:
        raise annotation_error(f"has no {name}", "empty", "at least one", "mark the object in the annotation tool")
    return value


def check_stated_size(parts: AnnotationParts, width: object, height: object) -> None:
    """Refuse a stated picture size that is not the photo's.

    Args:
        parts: The parts of the mask, which have the photo's size.
        width: The stated columns; None with a height of None is not stated.
        height: The stated rows.

    Raises:
        InputError: another size, or no whole numbers.
    """
    if (width, height) not in ((None, None), parts.size):
        seen = f"is for a picture of {describe_value(width)}x{describe_value(height)} pixels"
        raise annotation_error(
            seen, "size", f"the photo's {parts.size[0]}x{parts.size[1]}", "use the annotation of this photo"
        )


def read_coordinate(value: object) -> float:
    """A coordinate of a document; refused unless it is a finite number that a photo can have."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_COORDINATE:
        return float(value)
    raise bad_points_error(f"the coordinate {describe_value(value)}")


def name_of(value: object) -> str:
    """An id, name or label as text, as it appears in a key."""
    return value if isinstance(value, str) else describe_value(value)


def describe_value(value: object) -> str:
    """A short text of a value from a document, for a message; of a container only its length."""
    if isinstance(value, dict):
        return f"an object with the keys {list_names(list(value))}" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    return "null" if value is None else shorten(value)


def list_names(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(shorten(name) for name in names[:_MAX_LISTED]) + more


def annotation_error(seen: str, code: str, expected: str, fix: str = "export it again") -> InputError:
    """The error of an annotation that cannot be used.

    Args:
        seen: What the annotation is or has.
        code: End of the error's code.
        expected: What was expected.
        fix: What to do.
    """
    return InputError(f"the annotation {seen}", expected, fix, "mask", f"annotation_{code}")


def ambiguous_error(seen: str, names: list[str]) -> InputError:
    return annotation_error(
        seen, "ambiguous", f"one of {list_names(names)}", "choose with a key, as in annotations.json#3"
    )


def unknown_key_error(key: str, names: list[str]) -> InputError:
    return annotation_error(f"has no {shorten(key)!r}", "unknown_key", list_names(names), "choose one of these")


def bad_points_error(seen: str, expected: str = "points [x, y] of finite numbers in pixels of the photo") -> InputError:
    return annotation_error(f"has {seen}", "bad_points", expected)
