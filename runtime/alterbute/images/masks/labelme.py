"""Labelme annotations: polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from typing import Final

import numpy as np

from alterbute.errors import InputError
from alterbute.images.files.canvas import make_planes
from alterbute.images.files.header import read_header
from alterbute.images.files.png.png_chunks import read_png
from alterbute.images.files.png.png_pixels import fill_from_png
from alterbute.images.masks.annotation_parts import (
    AnnotationParts,
    Corners,
    Entry,
    ambiguous_error,
    annotation_error,
    bad_points_error,
    describe_value,
    list_entries,
    name_of,
    read_coordinate,
    unknown_key_error,
)
from alterbute.images.masks.shapes import MAX_POINTS, draw_circle

_SHAPE_TYPES: Final = ("polygon", "rectangle", "circle", "mask")


def choose_shapes(document: Entry, key: str | None) -> list[Entry]:
    """The shapes of a Labelme document that a key chooses."""
    shapes = list_entries(document, "shapes")
    labels = [name_of(shape.get("label")) for shape in shapes]
    counts = Counter(labels)
    described = [f"{label} ({count})" for label, count in counts.items()]
    if key is None and len(counts) > 1:
        raise ambiguous_error(f"has {len(counts)} labels to choose from", described)
    picked = [shape for shape, label in zip(shapes, labels, strict=True) if key in (None, label)]
    if key is not None and not picked:
        if not re.fullmatch(r"[0-9]{1,9}", key) or int(key) >= len(shapes):
            raise unknown_key_error(key, described)
        picked = [shapes[int(key)]]
    return picked


def add_shape(parts: AnnotationParts, shape: Entry) -> None:
    """Add a Labelme shape to the parts of a mask."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind not in _SHAPE_TYPES:
        raise annotation_error(
            f"has a shape of type {name_of(kind)}", "shape_type", ", ".join(_SHAPE_TYPES), "draw its outline"
        )
    if not isinstance(points, list) or len(points) > MAX_POINTS:
        raise bad_points_error(f"points that are {describe_value(points)}")
    corners: Corners = []
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise bad_points_error(f"a point that is {describe_value(point)}")
        corners.append((read_coordinate(point[0]), read_coordinate(point[1])))
    if kind == "polygon" or (kind == "rectangle" and len(corners) == 4):
        parts.polygons.append(corners)
        return
    if len(corners) != 2:
        raise bad_points_error(f"a {kind} of {len(corners)} points", "two points")
    (x0, y0), (x1, y1) = corners
    if kind == "rectangle":
        parts.polygons.append([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif kind == "circle":
        parts.polygons.append(draw_circle((x0, y0), math.hypot(x1 - x0, y1 - y0)))
    else:
        _add_picture(parts, shape.get("mask"), corners)


def _add_picture(parts: AnnotationParts, text: object, box: Corners) -> None:
    """Add the mask of a Labelme shape of type `mask` to the parts of a mask.

    Args:
        parts: The parts.
        text: A grey PNG in base64; every pixel above 0 is marked.
        box: Its first and last pixel. Labelme's last pixel lies inside the PNG, or one beyond it at the photo's border.
    """
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    header = read_header(data)
    if header is None or header.format != "PNG" or header.bits > 8 or header.channels != 1:
        raise _bad_picture("that is no grey 8-bit PNG in base64")
    (left, top), (right, bottom) = ((math.floor(x), math.floor(y)) for x, y in box)
    seen = f"of {header.width}x{header.height} pixels in the box {left},{top},{right},{bottom}"
    if header.width - (right - left) not in (0, 1) or header.height - (bottom - top) not in (0, 1):
        raise _bad_picture(seen)
    if min(left, top) < 0 or left + header.width > parts.size[0] or top + header.height > parts.size[1]:
        raise _bad_picture(f"{seen}, outside the photo of {parts.size[0]}x{parts.size[1]}")
    planes = make_planes((header.width, header.height), is_grey=True)
    try:
        png = read_png(data, header)
        is_grey = png.color_type == 0 and png.transparency is None
        if is_grey:
            fill_from_png(png, planes, 1)
    except OSError:
        raise _bad_picture("whose PNG is damaged") from None
    if not is_grey:
        raise _bad_picture("whose PNG is not grey")
    parts.add_mask(np.where(planes.colors > 0, np.uint8(255), np.uint8(0)), left, top)


def _bad_picture(seen: str) -> InputError:
    return annotation_error(f"has a mask {seen}", "bad_picture", "a grey PNG in base64 that fills its box")
