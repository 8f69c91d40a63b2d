"""Masks from annotation documents: COCO (polygons, run lengths) and Labelme (polygon, rectangle, circle, mask).

A document is untrusted: sizes and counts are checked before memory of their size is allocated.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from alterbute.images.files.read_source import read_bytes
from alterbute.images.masks.annotation_parts import (
    AnnotationParts,
    annotation_error,
    check_stated_size,
    describe_value,
    unknown_key_error,
)
from alterbute.images.masks.coco import add_segmentation, choose_annotations
from alterbute.images.masks.labelme import add_shape, choose_shapes
from alterbute.images.masks.shapes import shorten
from alterbute.images.photo import Bytes

MAX_FILE_BYTES: Final = 64 << 20
# Brackets and commas of the largest file that is parsed; together they bound the memory of the parsed document.
_MAX_CONTAINERS: Final = 2_000_000
_MAX_VALUES: Final = 12_000_000
_PATH: Final = re.compile(r"(.*?\.json)(?:#(.*))?", re.IGNORECASE | re.DOTALL)


def is_annotation(source: object) -> bool:
    """Whether a mask's source is an annotation: a document, or a path whose name before any `#` ends in .json."""
    if isinstance(source, str | Path):
        return _PATH.fullmatch(str(source)) is not None
    return isinstance(source, dict)


def load_annotation(path_with_key: str | Path, size: tuple[int, int]) -> Bytes:
    """Load a mask from an annotation file.

    Args:
        path_with_key: `annotations.json`, or with a key as in `annotations.json#3` or `annotations.json#cat`.
        size: Width and height of the photo.

    Returns:
        HW uint8, how much of each pixel is marked, 255 = wholly.

    Raises:
        InputError: the file cannot be read or is too large, or its content is refused; see `read_annotation`.
    """
    match = _PATH.fullmatch(str(path_with_key))
    path, key = Path(match[1] if match else path_with_key), match[2] if match else None
    try:
        data = read_bytes(path, MAX_FILE_BYTES)
    except OSError as fault:
        raise annotation_error(f"{str(path)!r} {fault}", "unreadable", "a JSON file", "check the path") from None
    is_large = data.count(b"[") + data.count(b"{") > _MAX_CONTAINERS or data.count(b",") > _MAX_VALUES
    if len(data) > MAX_FILE_BYTES or is_large:
        seen = "too many values" if is_large else f"over {MAX_FILE_BYTES >> 20} MiB"
        limit = f"at most {MAX_FILE_BYTES >> 20} MiB, {_MAX_CONTAINERS:,} lists and objects and {_MAX_VALUES:,} values"
        raise annotation_error(f"file has {seen}", "too_large", limit, "save the annotations of this photo only")
    try:
        document = json.loads(data)
    except RecursionError:
        raise annotation_error("file is nested too deeply", "not_json", "a COCO or Labelme file") from None
    except ValueError as fault:
        raise annotation_error(f"file is not JSON ({shorten(fault)})", "not_json", "a COCO or Labelme file") from None
    return read_annotation(document, size, key or None)


def read_annotation(document: object, size: tuple[int, int], key: str | None = None) -> Bytes:
    """Draw the mask that an annotation describes.

    Args:
        document: Parsed JSON: a COCO file, its list of annotations, one annotation, one segmentation (polygons as flat lists,
            or run lengths as numbers or as COCO's compressed text), or a Labelme file.
        size: Width and height of the photo.
        key: Which one, where there are several: the id of a COCO annotation or the name of its category; the label of
            Labelme shapes or the index of one, from 0. All that have the name are united.

    Returns:
        HW uint8, how much of each pixel is marked, 255 = wholly.

    Raises:
        InputError: malformed, of another size than the photo, ambiguous, or without the key.
    """
    parts = AnnotationParts(size)
    if isinstance(document, list) and document and isinstance(document[0], dict):
        document = {"annotations": document}
    elif isinstance(document, dict) and "segmentation" in document and "annotations" not in document:
        document = {"annotations": [document]}
    if isinstance(document, dict) and "shapes" in document:
        check_stated_size(parts, document.get("imageWidth"), document.get("imageHeight"))
        for shape in choose_shapes(document, key):
            add_shape(parts, shape)
    elif isinstance(document, dict) and "annotations" in document:
        for annotation, image in choose_annotations(document, key):
            check_stated_size(parts, image.get("width"), image.get("height"))
            add_segmentation(parts, annotation.get("segmentation"))
    elif isinstance(document, list) or (isinstance(document, dict) and "counts" in document):
        if key is not None:
            raise unknown_key_error(key, ["no key, for a document of one segmentation"])
        add_segmentation(parts, document)
    else:
        raise annotation_error(
            f"is {describe_value(document)}", "unknown_format", "shapes, annotations, a segmentation or counts"
        )
    return parts.unite()
