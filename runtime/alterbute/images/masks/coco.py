"""COCO annotations: polygons, and run lengths as numbers or as compressed text."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.masks.annotation_parts import (
    AnnotationParts,
    Entry,
    ambiguous_error,
    annotation_error,
    check_stated_size,
    describe_value,
    list_entries,
    name_of,
    read_coordinate,
    unknown_key_error,
)
from alterbute.images.masks.shapes import MAX_POINTS
from alterbute.images.photo import Bytes

# Counts, or characters of compressed counts, of a mask; decoding takes up to 60 bytes for each.
_MAX_COUNTS: Final = 4_000_000


def choose_annotations(document: Entry, key: str | None) -> list[tuple[Entry, Entry]]:
    """The annotations of a COCO document that a key chooses, each with its image; empty where no image is listed."""
    entries = list_entries(document, "annotations")
    categories, images = list_entries(document, "categories"), list_entries(document, "images")
    names = {name_of(category.get("id")): name_of(category.get("name")) for category in categories}
    ids = [name_of(entry.get("id", index)) for index, entry in enumerate(entries)]
    labels = [names.get(name_of(entry.get("category_id"))) for entry in entries]
    described = [name if label is None else f"{name} ({label})" for name, label in zip(ids, labels, strict=True)]
    picked = list(range(len(entries)))
    if key is not None:
        picked = [index for index in picked if ids[index] == key] or [i for i in picked if labels[i] == key]
        if not picked:
            raise unknown_key_error(key, described)
    image_ids = [name_of(entries[index].get("image_id")) for index in picked]
    num_images = len(set(image_ids))
    if (key is None and len(picked) > 1) or num_images > 1:
        where = f" on {num_images} images" if num_images > 1 else ""
        raise ambiguous_error(
            f"has {len(picked)} objects{where} to choose from", [described[index] for index in picked]
        )
    image = next((image for image in images if name_of(image.get("id")) == image_ids[0]), {})
    return [(entries[index], image) for index in picked]


def add_segmentation(parts: AnnotationParts, segmentation: object) -> None:
    """Add a COCO segmentation, polygons or run lengths, to the parts of a mask."""
    if isinstance(segmentation, dict):
        parts.add_mask(_decode_runs(parts, segmentation))
        return
    if not isinstance(segmentation, list) or not segmentation:
        seen = f"has a segmentation that is {describe_value(segmentation)}"
        raise annotation_error(seen, "bad_segmentation", "a list of polygons, or an object with counts and size")
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or len(polygon) > 2 * MAX_POINTS:
            expected = f"a flat list of x and y of at most {MAX_POINTS:,} corners in turn"
            raise annotation_error(f"has a polygon that is {describe_value(polygon)}", "bad_polygon", expected)
        values = [read_coordinate(value) for value in polygon]
        parts.polygons.append(list(zip(values[::2], values[1::2], strict=True)))


def _decode_runs(parts: AnnotationParts, entry: Entry) -> Bytes:
    """A run-length mask: lengths of 0 and 255 in turn, column by column from the top left, as text or as numbers."""
    counts, size = entry.get("counts"), entry.get("size")
    if not isinstance(size, list | tuple) or len(size) != 2 or None in size:
        raise annotation_error(f"has a size that is {describe_value(size)}", "bad_size", "[height, width]")
    check_stated_size(parts, size[1], size[0])
    width, height = parts.size
    if isinstance(counts, str | bytes):
        lengths = _decode_text(counts, width * height)
    elif isinstance(counts, list | tuple):
        lengths = _check_counts(counts, width * height)
    else:
        raise _bad_counts(f"counts that are {describe_value(counts)}")
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > width * height:
        raise _bad_counts("a count below 0 or over the whole picture")
    if lengths.sum() != width * height:
        raise _bad_counts(f"counts of {lengths.sum():,} pixels in all")
    values = np.where(np.arange(len(lengths)) % 2, np.uint8(255), np.uint8(0))
    return np.repeat(values, lengths).reshape(width, height).T


def _check_counts(counts: list[object] | tuple[object, ...], num_pixels: int) -> NDArray[np.int64]:
    if len(counts) > min(num_pixels + 2, _MAX_COUNTS):
        raise _bad_counts(f"{len(counts):,} counts")
    for count in counts:
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or not 0 <= count <= num_pixels:
            raise _bad_counts(f"the count {describe_value(count)}")
    return np.array(counts, np.int64)


def _decode_text(text: str | bytes, num_pixels: int) -> NDArray[np.int64]:
    """Run lengths from COCO's compressed text.

    Each character holds 6 bits, offset by 48: 5 bits of a number, lowest first, and whether another character follows; the
    highest bit of a number is its sign. From the fourth number on, it is the difference to the number two before.
    """
    if len(text) > min(2 * num_pixels + 16, _MAX_COUNTS):
        raise _bad_counts(f"counts of {len(text):,} characters")
    # A character outside ASCII becomes a space, which the next check refuses.
    data = re.sub(r"[^\x00-\x7f]", " ", text).encode() if isinstance(text, str) else text
    chars = np.frombuffer(data, np.uint8) - np.uint8(48)  # wraps around below 48
    if chars.max(initial=0) >= 64:
        raise _bad_counts("counts with a character that is not one of 0 to o")
    ends = np.flatnonzero(chars < 32)
    if not len(ends) or ends[-1] != len(chars) - 1:
        raise _bad_counts("counts that end inside a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    widths = ends - starts + 1
    if widths.max() > 6:
        raise _bad_counts("a count of over 30 bits")
    places = np.arange(len(chars)) - np.repeat(starts, widths)
    numbers = np.add.reduceat((chars & 31).astype(np.int64) << 5 * places, starts)
    numbers -= (chars[ends] >= 16).astype(np.int64) << 5 * widths
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _bad_counts(seen: str) -> InputError:
    return annotation_error(f"has {seen}", "bad_counts", "whole counts from 0 whose sum is height x width")
