"""Scales of one product, and how much noise they cost: chosen from ranges and weights alone, before anything is rewritten.

Noise is told as a signal-to-noise ratio of power in decibels (`snr`). Rounding to steps of `d` adds `d^2 / 12` to every number that is rounded;
a product's output gets that of its activations through its weights, that of its weights through its activations, and, of a
convolution, that of its own result.

Channels of very different size share the scale of an activation poorly. `x W = (x / s) (s W)` moves the difference into the
weights, which have a scale for each output: SmoothQuant (Xiao et al. 2022, arXiv 2211.10438, eq. 3 and 4, with alpha = 1/2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute_export.int8.activation_ranges import Range
from alterbute_export.int8.find_ops import QuantizableOp

WEIGHT_LIMIT: Final = 63
_LEVELS: Final = 255
_SMOOTHING_GAIN_DB: Final = 3.0
"""What smoothing must gain, because it costs a pass over the activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Of u8 activations: `real = scale * (stored - zero)`."""

    scale: np.float32
    zero: np.uint8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """Of one product. `smooth` `[channels]` divides its activations; None where that is not worth it. `result` is a convolution's."""

    activation: Scale
    weights: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    smooth: NDArray[np.float32] | None
    result: Scale | None
    snr: float


def choose_scales(product: QuantizableOp, source: Range, result: Range) -> Scales:
    """The better of plain and smoothed scales.

    Args:
        product: The product.
        source: Of its activations.
        result: Of what it makes.
    """
    weights = product.weights
    plain = _choose(product, weights, source, result)
    smooth = _smoothing(_largest_along(weights, 1 - product.output_axis), source)
    smoothed = _choose(
        product,
        weights * _spread(smooth, weights.ndim, 1 - product.output_axis),
        replace(source, low=source.low / smooth, high=source.high / smooth, square=source.square / smooth**2),
        result,
    )
    if smoothed.snr >= plain.snr + _SMOOTHING_GAIN_DB:
        return replace(smoothed, smooth=smooth)
    return plain


def choose_scale(found: Range) -> Scale:
    """The scale that spans a range, zero included and exact."""
    low, high = min(float(found.low.min()), 0.0), max(float(found.high.max()), 0.0)
    scale = np.float32((high - low) / _LEVELS) or np.float32(1)
    return Scale(scale=scale, zero=np.uint8(np.clip(np.rint(-low / scale), 0, _LEVELS)))


def quantize_weights(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights in seven bits and the scales of their output channels `[channels]`; `rewrite` says why seven."""
    largest = _largest_along(weights, axis)
    scales = np.where(largest > 0, largest / WEIGHT_LIMIT, 1).astype(np.float32)
    return np.rint(weights / _spread(scales, weights.ndim, axis)).astype(np.int8), scales


def _choose(product: QuantizableOp, weights: NDArray[np.float32], source: Range, result: Range) -> Scales:
    activation = choose_scale(source)
    stored, scales = quantize_weights(weights, product.output_axis)
    is_convolution = weights.ndim == 4
    own = choose_scale(result) if is_convolution else None
    taps = weights[0, 0].size if is_convolution else 1
    outputs = weights.shape[product.output_axis]
    power = float((weights.astype(np.float64) ** 2).sum()) / outputs
    error = power * float(activation.scale) ** 2
    error += float(source.square.sum()) * taps * float((scales.astype(np.float64) ** 2).mean())
    error += float(own.scale) ** 2 if own else 0.0
    signal = float(result.square.mean())
    snr = 10 * np.log10(signal / (error / 12)) if error and signal else np.inf
    return Scales(activation=activation, weights=stored, weight_scales=scales, smooth=None, result=own, snr=float(snr))


def _smoothing(heavy: NDArray[np.float32], source: Range) -> NDArray[np.float32]:
    """Divisors of the activations' channels; `heavy` is the largest weight that meets each."""
    large = np.maximum(np.abs(source.low), np.abs(source.high))
    known = (heavy > 0) & (large > 0)
    return np.where(known, np.sqrt(np.where(known, large, 1) / np.where(known, heavy, 1)), 1).astype(np.float32)


def _largest_along(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    largest: NDArray[np.float32] = np.abs(weights).max(
        axis=tuple(index for index in range(weights.ndim) if index != axis)
    )
    return largest


def _spread(values: NDArray[np.float32], rank: int, axis: int) -> NDArray[np.float32]:
    """Values of one axis, in a shape that meets an array of this rank along it."""
    return values.reshape([-1 if index == axis else 1 for index in range(rank)])
