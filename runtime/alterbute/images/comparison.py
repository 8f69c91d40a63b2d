"""Comparison of a photo with an editor's result: what changed outside the mask, by how much, and from what cause.

Counts and means are exact, over all pixels. Shift, scale and cause are estimates from a sample of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.images.arrays import strips
from alterbute.images.boxes import Box, object_box
from alterbute.images.color import show_same_colors
from alterbute.images.motion import draw_points, estimate_motion
from alterbute.images.photo import Bytes, Photo, Pixels

Cause: TypeAlias = Literal["none", "local", "elsewhere", "shifted", "scaled", "colour", "recompressed"]
"""Of the changes outside the mask: `local` all lie within `NEAR` pixels of it; `elsewhere` some do not; `shifted`, `scaled` and
`colour` are changes of the whole picture; `recompressed` are small differences nearly everywhere, as JPEG makes them."""
NEAR: Final = 16  # pixels from the mask, in rows and in columns

_Flags: TypeAlias = NDArray[np.bool_]
_LEVELS: Final = np.arange(256)
# A cause of the whole picture changes this share of the tiles that are not flat, and a change of colour this share of the
# pixels, of whose squared differences it explains this share.
_MIN_SPREAD: Final = 0.6
_MIN_COLOUR_SHARE: Final = 0.25
_MIN_EXPLAINED: Final = 0.7
_MAX_SMALL_MEAN: Final = 8.0  # levels; compression changes less,
_MAX_KEPT: Final = 0.5  # of which the mean of a tile keeps less


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourDrift:
    """How the colours outside the mask changed as a whole, for R, G and B.

    Args:
        mean: Mean of AFTER - BEFORE, in levels.
        gain: Factor of the straight line AFTER = gain x BEFORE + offset of least squares; 1 for a flat channel.
        offset: Offset of that line, in levels.
        explained: Share of the squared differences that a tone curve for each channel, or a mix of the channels, explains.
    """

    mean: tuple[float, ...]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    explained: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Figures of two photos; all but the first three are None when the sizes differ.

    Outside is where the mask is 0. A pixel has changed if R, G, B or alpha differs; a photo without alpha is opaque.

    Args:
        size: Width and height of BEFORE.
        after_size: Width and height of AFTER.
        is_same_size: Whether these are equal.
        is_same_profile: Whether their colour profiles show the same levels in the same colours.
        bits: Bits per channel of the deeper photo, in whose levels differences are given.
        mask_share: Share of the pixels that are inside.
        outside_pixels: Number of pixels outside.
        changed_outside: Number of changed pixels outside.
        changed_alpha_outside: Number of pixels outside whose alpha differs.
        largest_outside: Largest difference of one channel outside, in levels.
        mean_outside: Mean difference of a channel outside, in levels, over RGB, and alpha where a photo has it.
        changed_inside: Number of changed pixels inside.
        mean_inside: The mean difference inside.
        bounds_outside: The box around the changed pixels outside; None if there are none.
        shift: Columns and rows by which AFTER is moved right and down, to half a pixel; of a scaled picture, at its centre.
        scale: Size of what AFTER shows in units of BEFORE, the mean of both directions; 1 if none was detected.
        colour_drift: How the colours changed as a whole; of a shifted or scaled picture, it is no change of colour.
        cause: What explains the changes outside best.
    """

    size: tuple[int, int]
    after_size: tuple[int, int]
    is_same_size: bool
    mask_share: float | None = None
    is_same_profile: bool = True
    bits: int = 8
    outside_pixels: int | None = None
    changed_outside: int | None = None
    changed_alpha_outside: int | None = None
    largest_outside: int | None = None
    mean_outside: float | None = None
    changed_inside: int | None = None
    mean_inside: float | None = None
    bounds_outside: Box | None = None
    shift: tuple[float, float] | None = None
    scale: float | None = None
    colour_drift: ColourDrift | None = None
    cause: Cause | None = None


def compare_photos(before: Photo, after: Photo, mask: Bytes) -> Comparison:
    """Compare an editor's result with the photo.

    Args:
        before: The photo.
        after: The editor's result.
        mask: HW uint8 of the size of `before`, 0 = must not change.
    """
    sizes = (before.width, before.height), (after.width, after.height)
    if sizes[0] != sizes[1]:
        return Comparison(size=sizes[0], after_size=sizes[1], is_same_size=False)
    bits, profiles = max(before.bits, after.bits), (before.icc, after.icc)
    exact = _in_depth(before, bits), _in_depth(after, bits)
    before, after = before.to_8_bits(), after.to_8_bits()
    is_outside = mask == 0
    outside_pixels = int(np.count_nonzero(is_outside))
    channels = 3 if before.alpha is None and after.alpha is None else 4
    is_changed = np.empty(mask.shape, np.bool_)
    largest = changed_alpha = sum_outside = sum_all = 0
    for rows in strips(mask.shape):
        total = np.zeros(mask[rows].shape, np.uint16 if bits == 8 else np.uint32)
        worst = np.zeros(mask[rows].shape, exact[0].pixels.dtype)
        for channel in range(channels):
            a, b = (_read_channel(photo, rows, channel) for photo in exact)
            difference = np.maximum(a, b) - np.minimum(a, b)
            total += difference
            np.maximum(worst, difference, out=worst)
            if channel == 3:
                changed_alpha += int(np.count_nonzero((difference > 0) & is_outside[rows]))
        np.greater(worst, 0, out=is_changed[rows])
        sum_all += int(total.sum(dtype=np.int64))
        # Products rather than indexing by a mask, which takes numpy several times as long.
        sum_outside += int((total * is_outside[rows]).sum(dtype=np.int64))
        largest = max(largest, int((worst * is_outside[rows]).max(initial=0)))
    changed_all = int(np.count_nonzero(is_changed))
    is_changed &= is_outside
    changed = int(np.count_nonzero(is_changed))
    drift, mean_rgb, has_structure = _measure_drift(before, after, is_outside)
    shift, scale, cause = (0.0, 0.0), 1.0, _locate(is_changed, mask)
    spread, kept = _measure_spread(before, after, is_changed, is_outside) if mean_rgb else (0.0, 0.0)
    if spread >= _MIN_SPREAD:
        shift, scale = estimate_motion(before, after, is_outside)
        if scale != 1.0:
            cause = "scaled"
        elif shift != (0.0, 0.0):
            cause = "shifted"
        elif has_structure and drift.explained >= _MIN_EXPLAINED and changed >= _MIN_COLOUR_SHARE * outside_pixels:
            cause = "colour"
        elif mean_rgb <= _MAX_SMALL_MEAN and kept <= _MAX_KEPT:
            cause = "recompressed"
    return Comparison(
        size=sizes[0],
        after_size=sizes[1],
        is_same_size=True,
        is_same_profile=show_same_colors(*profiles),
        bits=bits,
        mask_share=1 - outside_pixels / mask.size,
        outside_pixels=outside_pixels,
        changed_outside=changed,
        changed_alpha_outside=changed_alpha,
        largest_outside=largest,
        mean_outside=sum_outside / max(channels * outside_pixels, 1),
        changed_inside=changed_all - changed,
        mean_inside=(sum_all - sum_outside) / max(channels * (mask.size - outside_pixels), 1),
        bounds_outside=object_box(is_changed.view(np.uint8)) if changed else None,
        shift=shift,
        scale=scale,
        colour_drift=drift,
        cause=cause,
    )


def _in_depth(photo: Photo, bits: int) -> Photo:
    """The picture with levels of this depth, at least its own."""
    if photo.bits == bits:
        return photo
    alpha = None if photo.alpha is None else photo.alpha * np.uint16(257)
    return Photo(pixels=photo.pixels * np.uint16(257), alpha=alpha)


def _read_channel(photo: Photo, rows: slice, channel: int) -> Pixels:
    """Rows of R, G, B or alpha."""
    if channel < 3:
        return photo.pixels[rows, :, channel]
    opaque = np.iinfo(photo.pixels.dtype).max
    return (
        np.full(photo.pixels[rows].shape[:2], opaque, photo.pixels.dtype) if photo.alpha is None else photo.alpha[rows]
    )


def _locate(is_changed: _Flags, mask: Bytes) -> Cause:
    """Whether there are changes, and whether all of them lie within `NEAR` pixels of the mask."""
    if not is_changed.any():
        return "none"
    is_near = mask > 0
    for axis in (0, 1):
        grown = np.moveaxis(is_near, axis, 0)
        for step in (1, 2, 4, 8, NEAR - 15):  # their sum is NEAR
            previous = grown.copy()
            grown[step:] |= previous[:-step]
            grown[:-step] |= previous[step:]
    return "elsewhere" if (is_changed & ~is_near).any() else "local"


def _measure_spread(before: Photo, after: Photo, is_changed: _Flags, is_outside: _Flags) -> tuple[float, float]:
    """Share of the tiles that have a change, and share of the differences that the mean of a larger tile keeps."""

    def pool(reduce: np.ufunc, plane: NDArray[np.generic], side: int) -> NDArray[np.int64]:
        tops, lefts = (np.arange(0, length, side) for length in plane.shape)
        kind = np.uint16 if reduce is np.add else None  # else numpy copies the plane as int64; 16 x 16 x 255 fits
        return reduce.reduceat(reduce.reduceat(plane, tops, 0, kind), lefts, 1, kind).astype(np.int64)

    side = min(max(min(before.height, before.width) // 16, 2), 16)
    a, b = before.pixels[:, :, 1], after.pixels[:, :, 1]
    is_candidate = pool(np.logical_or, is_outside, side) > 0
    is_detailed = is_candidate & (pool(np.maximum, a, side) > pool(np.minimum, a, side))
    if is_detailed.any():  # JPEG keeps flat areas as they are
        is_candidate = is_detailed
    spread = pool(np.logical_or, is_changed, side).sum(where=is_candidate) / max(np.count_nonzero(is_candidate), 1)
    is_whole = pool(np.logical_and, is_outside, 16) > 0
    kept = abs(pool(np.add, a, 16) - pool(np.add, b, 16)).sum(where=is_whole)
    return spread, kept / max(pool(np.add, np.maximum(a, b) - np.minimum(a, b), 16).sum(where=is_whole), 1)


def _measure_drift(before: Photo, after: Photo, is_outside: _Flags) -> tuple[ColourDrift, float, bool]:
    """The drift of colours outside, the mean difference of R, G and B, and whether AFTER still shows what BEFORE shows."""
    counts = np.zeros((3, 256, 256), np.int64)  # pixels by channel, level before and level after
    for rows in strips(is_outside.shape):
        for channel in range(3):
            pairs = before.pixels[rows, :, channel].astype(np.uint16) << 8
            pairs |= after.pixels[rows, :, channel]
            counts[channel] += np.bincount(pairs[is_outside[rows]], minlength=1 << 16).reshape(256, 256)
    number = max(int(counts[0].sum()), 1)
    difference = _LEVELS[None, :] - _LEVELS[:, None]
    by_before, by_after = counts.sum(axis=2), counts.sum(axis=1)
    sum_after = counts @ _LEVELS  # of the pixels of each level before
    mean = (counts * difference).sum(axis=(1, 2)) / number
    mean_before, mean_after = by_before @ _LEVELS / number, by_after @ _LEVELS / number
    variance_before = by_before @ _LEVELS**2 / number - mean_before**2
    covariance = sum_after @ _LEVELS / number - mean_before * mean_after
    is_flat = variance_before < 1e-6
    gain = np.where(is_flat, 1.0, covariance / np.where(is_flat, 1.0, variance_before))
    squared = float((counts * difference**2).sum()) / number
    # What a tone curve, one value for each level before, leaves; corrected for the number of its values.
    curve = by_after @ _LEVELS**2 - (sum_after**2 / np.maximum(by_before, 1)).sum(axis=1)
    curve /= np.maximum(number - (by_before > 0).sum(axis=1), 1)
    # What a mix of the channels leaves: a change of saturation or of the colour profile.
    y, x = draw_points(is_outside)
    source, target = np.hstack([before.pixels[y, x], np.ones((len(y), 1))]), after.pixels[y, x].astype(np.float64)
    mix = target - source @ np.linalg.lstsq(source, target, rcond=None)[0]
    sampled = float(((target - source[:, :3]) ** 2).sum())
    shares = [float(curve.sum()) / squared if squared else 1.0, float((mix**2).sum()) / sampled if sampled else 1.0]
    drift = ColourDrift(
        mean=tuple(mean.tolist()),
        gain=tuple(gain.tolist()),
        offset=tuple((mean_after - gain * mean_before).tolist()),
        explained=min(max(1 - min(shares), 0.0), 1.0),
    )
    # A picture that is flat where the photo is not shows nothing of it.
    variance_after = float((by_after @ _LEVELS**2 / number - mean_after**2).sum())
    has_structure = min(shares) * squared < (1 - _MIN_EXPLAINED) * variance_after or bool(is_flat.all())
    return drift, float((counts * abs(difference)).sum()) / (3 * number), has_structure
