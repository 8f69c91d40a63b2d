"""What a mask marks: its pixels as coverage 0..255, from white, black, opaque or transparent pixels, or from a label value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.arrays import count_levels
from alterbute.images.files.decode import Levels
from alterbute.images.masks.colors import ColorTable, count_colors, parse_color, project_on_line
from alterbute.images.photo import Bytes, Photo, to_8_bits

Polarity: TypeAlias = Literal["auto", "alpha", "opaque", "white", "black"]
"""Which pixels of a mask mean "edit": `alpha` the transparent ones, `opaque` the opaque ones, `white` the light ones, `black` the
dark ones. `auto` decides by the mask's content, and refuses what is ambiguous."""

POLARITIES: Final[tuple[Polarity, ...]] = ("auto", "alpha", "opaque", "white", "black")
MaskValue: TypeAlias = int | str
"""A label of a label image: a grey level or palette index 0..255, or a colour such as `#800000`."""

_ONE_COLOR: Final = 16
_SAME_PICTURE: Final = 8
_MOST_LABELS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marked:
    """What a mask marks.

    Args:
        levels: HW uint8 coverage, 255 = fully marked.
        origin: What the marked pixels are, for messages: `white`, `opaque`, `value 7`...
    """

    levels: Bytes
    origin: str


def mark(
    mask: Levels, param: str, polarity: Polarity, value: MaskValue | None = None, picture: Photo | None = None
) -> Marked:
    """Decide which pixels a mask marks.

    Args:
        mask: The decoded mask.
        param: Role of the mask, for error messages.
        polarity: See `Polarity`.
        value: The label that is the object; None for a mask that is no label image.
        picture: The picture that the mask belongs to; a mask that is a cut-out of it is recognised.

    Raises:
        InputError: the mask has no such pixels, no transparency, or is ambiguous.
    """
    if value is not None:
        return _mark_value(mask, param, value)
    has_holes = mask.alpha is not None and int(mask.alpha.min()) < 255
    if polarity == "auto":
        polarity = _read_transparency(mask, param, picture) if has_holes else "white"
        if polarity == "white":
            return _mark_opaque_colors(mask, param)
    if polarity in ("alpha", "opaque"):
        if mask.alpha is None:
            raise InputError(
                f"the {param} has no transparency, and polarity {polarity!r} is about what is {'transparent' if polarity == 'alpha' else 'opaque'}",
                "a PNG or WebP with transparency",
                "save the mask with its transparency, or use --mask-polarity white",
                param,
                f"{param}_without_alpha",
            )
        if polarity == "opaque":
            return Marked(levels=mask.alpha, origin="opaque")
        return Marked(levels=255 - mask.alpha, origin="transparent")
    levels = 255 - mask.luminance if polarity == "black" else mask.luminance
    return Marked(levels=_paint_only(levels, mask), origin=polarity)


def _paint_only(levels: Bytes, mask: Levels) -> Bytes:
    """A transparent pixel was not painted: it never counts as marked."""
    return levels if mask.alpha is None else np.where(mask.alpha >= 128, levels, np.uint8(0))


def _read_transparency(mask: Levels, param: str, picture: Photo | None) -> Polarity:
    """Whether the opaque or the transparent part of a mask is the object."""
    assert mask.alpha is not None
    opaque = mask.alpha == 255
    border = np.concatenate([mask.alpha[0], mask.alpha[-1], mask.alpha[:, 0], mask.alpha[:, -1]])
    open_border = float((border < 128).mean())
    channels = mask.channels()
    is_one_color = all(
        not opaque.any() or int(plane[opaque].max()) - int(plane[opaque].min()) <= _ONE_COLOR for plane in channels
    )
    if is_one_color or _shows_picture(mask, opaque, picture):
        # Paint or a cut-out on an empty layer leaves the border open; an eraser leaves a hole inside the picture.
        if open_border >= 0.75:
            return "opaque"
        if open_border <= 0.25:
            return "alpha"
    elif open_border <= 0.25 and not opaque.any():
        return "alpha"
    elif _is_black_and_white(mask, opaque):
        return "white"
    raise InputError(
        f"the {param} is partly transparent ({(mask.alpha < 128).mean():.0%} of it), and its object may be the opaque or the transparent part",
        "a mask of which only one of the two can be meant",
        "say which: --mask-polarity opaque, or --mask-polarity alpha for an erased object",
        param,
        f"{param}_ambiguous",
    )


def _shows_picture(mask: Levels, opaque: NDArray[np.bool_], picture: Photo | None) -> bool:
    """Whether the opaque pixels are those of the picture."""
    if picture is None or (picture.height, picture.width) != mask.luminance.shape or not opaque.any():
        return False
    difference = 0.0
    for index, plane in enumerate(mask.channels()):
        other = to_8_bits(picture.pixels[:, :, index][opaque]).astype(np.int16)
        difference = max(difference, float(np.abs(plane[opaque].astype(np.int16) - other).mean()))
    return difference <= _SAME_PICTURE


def _is_black_and_white(mask: Levels, opaque: NDArray[np.bool_]) -> bool:
    if mask.colors is not None or not opaque.any():
        return False
    levels = mask.luminance[opaque]
    is_light, is_dark = levels >= 240, levels <= 15
    return bool(is_light.any() and is_dark.any() and (is_light | is_dark).mean() > 0.95)


def _mark_value(mask: Levels, param: str, value: MaskValue) -> Marked:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 3:
        value = int(value)
    color = parse_color(value) if isinstance(value, str) else None
    if color is not None:
        is_value = np.ones(mask.luminance.shape, np.bool_)
        for plane, level in zip(mask.channels(), color, strict=True):
            is_value &= plane == level
    elif mask.labels is None and mask.colors is not None:
        raise InputError(
            f"the {param} is in colour, and its value is {value!r}",
            "a colour, such as #ff0000",
            f"choose one of {count_colors(mask).describe()}",
            "mask_value",
            "mask_value_type",
        )
    else:
        labels = mask.luminance if mask.labels is None else mask.labels
        is_value = labels == int(value)
    if not is_value.any():
        raise InputError(
            f"no pixel of the {param} has the value {value}",
            f"one of {count_colors(mask).describe()}",
            "choose one of those with --mask-value",
            "mask_value",
            "mask_value_absent",
        )
    return Marked(levels=np.where(is_value, np.uint8(255), np.uint8(0)), origin=f"value {value}")


def _mark_opaque_colors(mask: Levels, param: str) -> Marked:
    """The object of a mask without transparency: white, the lighter of two levels, or the colour that is not in the corners."""
    if mask.colors is None:
        values = np.flatnonzero(count_levels(mask.luminance))
        highest, lowest = int(values[-1]), int(values[0])
        if lowest < 128 <= highest and not _are_labels(mask, values.tolist()):
            return Marked(levels=_paint_only(mask.luminance, mask), origin="white")
        if len(values) == 1:
            # Empty or full, which the caller refuses.
            return Marked(levels=_paint_only(mask.luminance, mask), origin="white")
        if len(values) == 2:
            return _mark_two(mask, (lowest,) * 3, (highest,) * 3, f"level {lowest}", f"level {highest}")
        if len(values) > _MOST_LABELS // 4:
            return Marked(levels=_paint_only(mask.luminance, mask), origin="white")
        raise _label_error(mask, param)
    table = count_colors(mask)
    if len(table.colors) == 2:
        one, other = table.colors
        return _mark_two(mask, one, other, table.name(0), table.name(1))
    if mask.labels is not None and len(table.colors) <= 16:
        raise _label_error(mask, param)
    line = project_on_line(mask, table)
    if line is not None:
        levels, color = line
        return Marked(levels=levels, origin=f"colour {color}")
    if len(table.colors) <= _MOST_LABELS:
        raise _label_error(mask, param)
    raise InputError(
        f"the {param} has over {_MOST_LABELS} colours: it looks like a photo",
        "white on black, or one colour on another",
        "give the mask, or use --mask-polarity white if light means object",
        param,
        f"{param}_colors",
    )


def _are_labels(mask: Levels, values: Sequence[int]) -> bool:
    """Whether grey levels are labels rather than the edges of a white mask: a few, without white, or a palette's without white."""
    return (3 <= len(values) <= 16 and values[-1] < 250) or (mask.labels is not None and values[-1] < 250)


def _mark_two(mask: Levels, one: tuple[int, ...], other: tuple[int, ...], one_name: str, other_name: str) -> Marked:
    """Of two colours the one that is not in the corners is the object; where the corners have both, the one that is not black."""
    planes = mask.channels()
    corners = [tuple(int(plane[y, x]) for plane in planes) for y in (0, -1) for x in (0, -1)]
    in_corners = sum(corner == one for corner in corners)
    takes_other = in_corners > 2 or (in_corners == 2 and sum(one) < sum(other))
    color, name = (other, other_name) if takes_other else (one, one_name)
    is_object = np.ones(mask.luminance.shape, np.bool_)
    for plane, level in zip(planes, color, strict=True):
        is_object &= plane == level
    return Marked(levels=_paint_only(np.where(is_object, np.uint8(255), np.uint8(0)), mask), origin=name)


def _label_error(mask: Levels, param: str) -> InputError:
    table: ColorTable = count_colors(mask)
    return InputError(
        f"the {param} has {len(table.colors)} values: {table.describe()}",
        "a mask of two, or the label of the object",
        "choose the label with --mask-value, or use --mask-polarity white if light means object",
        param,
        f"{param}_labels",
    )
