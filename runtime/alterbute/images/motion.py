"""Estimation of how far an edited picture was moved or resized as a whole, from the luminance of a sample of pixels."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.images.arrays import strips
from alterbute.images.photo import Bytes, Photo

_Floats: TypeAlias = NDArray[np.float64]
_Flags: TypeAlias = NDArray[np.bool_]
_MAX_POINTS: Final = 8000  # of a sample
_MAX_CROP: Final = 1024
# A shift or a scale lowers the mean difference to less than this share; a scale moves some pixels at least so many pixels.
_MAX_RESIDUAL: Final = 0.7
_MIN_STRETCH: Final = 0.2
_MIN_POINTS: Final = 200


def draw_points(is_outside: _Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of at most `_MAX_POINTS` pixels outside: all of a small picture, else random ones, always the same."""
    if is_outside.size <= 4 * _MAX_POINTS:
        flat = np.flatnonzero(is_outside)
    else:
        flat = np.random.default_rng(0).integers(0, is_outside.size, 16 * _MAX_POINTS)
        flat = flat[is_outside.ravel()[flat]]
    flat = np.random.default_rng(1).permutation(flat)[:_MAX_POINTS]
    return flat // is_outside.shape[1], flat % is_outside.shape[1]


def estimate_motion(before: Photo, after: Photo, is_outside: _Flags) -> tuple[tuple[float, float], float]:
    """Estimate by how much the picture was moved and resized.

    Phase correlation gives a first shift, and Gauss-Newton steps from coarse to fine a shift and a stretch.

    Args:
        before: The photo.
        after: The editor's result, of the same size.
        is_outside: HW bool, the pixels to compare.

    Returns:
        Shift (right, down) of AFTER against BEFORE in pixels, to half a pixel, and its scale; (0, 0) and 1 unless they explain the
        differences outside much better.
    """
    planes = _to_luminance(before), _to_luminance(after)
    size = np.array([before.width, before.height], np.float64)
    still, halvings = np.zeros(4), max(int(np.log2(size.min() / 24)), 0)
    levels = [_Level(*planes, is_outside, 1 << power) for power in range(halvings, -1, -1)]
    if len((fine := levels[-1]).values) < _MIN_POINTS:
        return (0.0, 0.0), 1.0
    contrast = float(abs(fine.values - np.median(fine.values)).mean())
    baseline = min(fine.residual(still), fine.residual(still, blur=0.5), contrast / 2)
    if baseline < 0.05:  # levels
        return (0.0, 0.0), 1.0
    shifts, warps = [], []
    for start in (still, np.array([*_correlate_phase(*planes, is_outside), 0.0, 0.0])):
        warp = start
        for level in levels:
            warp = level.refine(warp, is_scaled=True)
        warps.append(warp)
        shifts += [start, fine.refine(start, is_scaled=False), fine.refine(warp * [1, 1, 0, 0], is_scaled=False)]
    shift, warp = min(shifts, key=fine.residual), min(warps, key=fine.residual)
    if (
        fine.residual(warp) < _MAX_RESIDUAL * min(baseline, fine.residual(shift))
        and abs(warp[2:]).max() >= _MIN_STRETCH
    ):
        scale = float((1 / (1 + 2 * warp[2:] / size)).mean())
    else:
        warp, scale = (shift if fine.residual(shift) < _MAX_RESIDUAL * baseline else still), 1.0
    right, down = (0.0 - round(2 * float(value)) / 2 for value in warp[:2])
    return (right, down), scale


def _to_luminance(photo: Photo) -> Bytes:
    """HW uint8 luminance, ITU-R BT.601."""
    luminance = np.empty(photo.pixels.shape[:2], np.uint8)
    for rows in strips(luminance.shape):
        red, green, blue = (photo.pixels[rows, :, channel].astype(np.uint16) for channel in range(3))
        luminance[rows] = (77 * red + 150 * green + 29 * blue + 128) >> 8
    return luminance


def _correlate_phase(before: Bytes, after: Bytes, is_outside: _Flags) -> tuple[float, float]:
    """The likeliest move (x, y) from AFTER to BEFORE in whole pixels, but (0, 0), by phase correlation of a crop's luminance."""
    height, width = (min(side, _MAX_CROP) for side in before.shape)
    tops, lefts = ([part * (side - min(side, _MAX_CROP)) // 2 for part in range(3)] for side in before.shape)
    spans = [np.s_[top : top + height, left : left + width] for top in tops for left in lefts]
    detail = [before[span][is_outside[span]][::7] for span in spans]
    span = spans[int(np.argmax([values.std() if values.size else 0 for values in detail]))]
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectra = []
    for plane in (before[span], after[span]):
        values = plane - plane[is_outside[span]].sum(dtype=np.float32) / max(np.count_nonzero(is_outside[span]), 1)
        spectra.append(np.fft.rfft2(values * window * is_outside[span]))
    cross = spectra[0] * spectra[1].conj()
    surface = np.fft.irfft2(cross / (abs(cross) + 1e-3 * abs(cross).mean() + 1e-12), (height, width))
    surface[0, 0] = -np.inf
    down, right = np.unravel_index(int(surface.argmax()), surface.shape)
    return float((right + width // 2) % width - width // 2), float((down + height // 2) % height - height // 2)


class _Level:
    """The luminance of both photos, of which squares of `factor` pixels are averaged, and pixels outside at which to compare.

    A warp is [4] (x, y, stretch x, stretch y) in pixels of the photo: the pixel of BEFORE that AFTER shows at a place is moved
    by (x, y) from there, and by (x, y) + stretch at the right and the lower edge.
    """

    def __init__(self, before: Bytes, after: Bytes, is_outside: _Flags, factor: int) -> None:
        rows, columns = (side // factor for side in before.shape)

        def shrink(plane: NDArray[np.generic]) -> NDArray[np.generic]:
            if factor == 1:
                return plane
            blocks = plane[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
            return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))

        self._factor = factor
        self._before, after_level = shrink(before), shrink(after)
        self._y, self._x = draw_points(shrink(is_outside) == 1)
        self.values = after_level[self._y, self._x].astype(np.float64)
        # Places from -1, the left and upper edge of the photo, to 1.
        self._across = (2 * self._x + 1) * (factor / before.shape[1]) - 1
        self._down = (2 * self._y + 1) * (factor / before.shape[0]) - 1

    def residual(self, warp: _Floats, blur: float = 0.0) -> float:
        """Mean difference after the warp and the best gain and offset, without the tenth that differs most.

        With `blur`, BEFORE is smoothed so far to each side: a warp that is better only because it smooths is no better than this.
        """
        x, y = self._map(warp)
        shown = sum(self._sample(x + i, y + j) for i in (-blur, blur) for j in (-blur, blur)) / 4
        design = np.stack([shown, np.ones_like(shown)], axis=1)
        errors = np.zeros(len(self.values))
        for _ in range(2):
            is_kept = errors <= np.quantile(errors, 0.9) if errors.size else errors > 0
            line = np.linalg.lstsq(design[is_kept], self.values[is_kept], rcond=None)[0]
            errors = abs(self.values - design @ line)
        errors.sort()
        return float(errors[: max(9 * errors.size // 10, 1)].mean()) if errors.size and line[0] > 0 else np.inf

    def refine(self, warp: _Floats, *, is_scaled: bool) -> _Floats:
        """Improve a warp, with its stretch if `is_scaled`, by Gauss-Newton steps with Huber's weights, a gain and an offset."""
        warp, number = warp.copy(), 4 if is_scaled else 2
        weights = np.ones(len(self.values))
        for _ in range(12):
            x, y = self._map(warp)
            right = self._sample(x + 0.5, y) - self._sample(x - 0.5, y)
            down = self._sample(x, y + 0.5) - self._sample(x, y - 0.5)
            motion = [right, down, right * self._across, down * self._down][:number]
            design = np.stack([*motion, self._sample(x, y), np.ones_like(x)], axis=1)
            height, width = self._before.shape
            weighted = design * (weights * (x >= 0) * (y >= 0) * (x <= width - 1) * (y <= height - 1))[:, None]
            solution = np.linalg.lstsq(weighted.T @ design, weighted.T @ self.values, rcond=1e-9)[0]
            errors = abs(self.values - design @ solution)
            weights = 1 / np.maximum(errors / (1.5 * np.median(errors) + 0.5), 1) if errors.size else weights
            # The design holds the motion times the gain.
            step = np.clip(solution[:number] / max(solution[number], 0.2), -2, 2) * self._factor
            warp[:number] += step
            if abs(step).max() < 0.005 * self._factor:
                break
        return warp

    def _map(self, warp: _Floats) -> tuple[_Floats, _Floats]:
        """Columns and rows of the level's BEFORE that the warp shows at the points."""
        right, down = warp[0] + warp[2] * self._across, warp[1] + warp[3] * self._down
        return self._x + right / self._factor, self._y + down / self._factor

    def _sample(self, x: _Floats, y: _Floats) -> _Floats:
        """BEFORE between its pixels, bilinear; the edge is repeated."""
        height, width = self._before.shape
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        left, top = x.astype(np.int64).clip(0, width - 2), y.astype(np.int64).clip(0, height - 2)
        x, y = x - left, y - top
        flat, place = self._before.ravel(), top * width + left
        upper = flat[place] * (1 - x) + flat[place + 1] * x
        lower = flat[place + width] * (1 - x) + flat[place + width + 1] * x
        return np.asarray(upper * (1 - y) + lower * y)
