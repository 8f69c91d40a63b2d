"""Quantization scales of one operator and the noise that they cause, from ranges and weights alone, before any rewriting.

Noise is measured as a signal-to-noise ratio of power in decibels (`snr`). Rounding to steps of `d` adds noise of power `d^2 / 12` to
every rounded number. An operator's output has the noise of its activations, multiplied by the weights, that of its weights,
multiplied by the activations, and, of a convolution, the rounding noise of the output itself.

Channels of very different magnitude share one activation scale poorly. `x W = (x / s) (s W)` moves the difference into the
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
"""Largest magnitude of a stored weight: seven bits; see `rewrite` for why not eight."""
_LEVELS: Final = 255
_SMOOTHING_GAIN_DB: Final = 3.0
"""Smallest gain for which smoothing is used, because it costs a pass over the activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Scale and zero point of u8 activations: `real = scale * (stored - zero_point)`."""

    scale: np.float32
    zero_point: np.uint8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """Scales and quantized weights of one operator."""

    activation: Scale
    weights: NDArray[np.int8]
    """The quantized weights, in the shape of the operator's weights."""
    weight_scales: NDArray[np.float32]
    """`[output channels]`"""
    smooth: NDArray[np.float32] | None
    """Divisors of the activations' channels, `[channels]`; None without smoothing."""
    output: Scale | None
    """Scale of a convolution's output; None of a matrix product, whose output is not quantized."""
    snr: float
    """Predicted signal-to-noise ratio of the output, in dB."""


def choose_scales(op: QuantizableOp, activations: Range, output: Range) -> Scales:
    """Scales of an operator, with smoothed activations when that gains enough.

    Args:
        op: The operator.
        activations: Range of its input.
        output: Range of its output.
    """
    weights = op.weights
    plain = _compute_scales(op, weights, activations, output)
    smooth = _smoothing(_largest_along(weights, 1 - op.output_axis), activations)
    smoothed = _compute_scales(
        op,
        weights * _align(smooth, weights.ndim, 1 - op.output_axis),
        replace(
            activations,
            low=activations.low / smooth,
            high=activations.high / smooth,
            mean_square=activations.mean_square / smooth**2,
        ),
        output,
    )
    if smoothed.snr >= plain.snr + _SMOOTHING_GAIN_DB:
        return replace(smoothed, smooth=smooth)
    return plain


def choose_scale(activations: Range) -> Scale:
    """The scale that covers a range over all channels; it includes zero, and represents it exactly."""
    low, high = min(float(activations.low.min()), 0.0), max(float(activations.high.max()), 0.0)
    scale = np.float32((high - low) / _LEVELS) or np.float32(1)
    return Scale(scale=scale, zero_point=np.uint8(np.clip(np.rint(-low / scale), 0, _LEVELS)))


def quantize_weights(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights in seven bits, and the scales of their output channels `[output channels]`."""
    largest = _largest_along(weights, axis)
    scales = np.where(largest > 0, largest / WEIGHT_LIMIT, 1).astype(np.float32)
    return np.rint(weights / _align(scales, weights.ndim, axis)).astype(np.int8), scales


def _compute_scales(op: QuantizableOp, weights: NDArray[np.float32], activations: Range, output: Range) -> Scales:
    """Scales without smoothing, and their signal-to-noise ratio."""
    activation = choose_scale(activations)
    stored, scales = quantize_weights(weights, op.output_axis)
    is_convolution = weights.ndim == 4
    output_scale = choose_scale(output) if is_convolution else None
    taps = weights[0, 0].size if is_convolution else 1
    outputs = weights.shape[op.output_axis]
    power = float((weights.astype(np.float64) ** 2).sum()) / outputs
    error = power * float(activation.scale) ** 2
    error += float(activations.mean_square.sum()) * taps * float((scales.astype(np.float64) ** 2).mean())
    error += float(output_scale.scale) ** 2 if output_scale else 0.0
    signal = float(output.mean_square.mean())
    snr = 10 * np.log10(signal / (error / 12)) if error and signal else np.inf
    return Scales(
        activation=activation, weights=stored, weight_scales=scales, smooth=None, output=output_scale, snr=float(snr)
    )


def _smoothing(largest_weights: NDArray[np.float32], activations: Range) -> NDArray[np.float32]:
    """Divisors of the activations' channels, from the largest weight of each input channel, all `[channels]`."""
    largest = np.maximum(np.abs(activations.low), np.abs(activations.high))
    is_used = (largest_weights > 0) & (largest > 0)
    ratio = np.where(is_used, largest, 1) / np.where(is_used, largest_weights, 1)
    return np.where(is_used, np.sqrt(ratio), 1).astype(np.float32)


def _largest_along(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Largest magnitude at each index of one axis."""
    largest: NDArray[np.float32] = np.abs(weights).max(
        axis=tuple(index for index in range(weights.ndim) if index != axis)
    )
    return largest


def _align(values: NDArray[np.float32], rank: int, axis: int) -> NDArray[np.float32]:
    """A vector in a shape that broadcasts along one axis of an array of this rank."""
    return values.reshape([-1 if index == axis else 1 for index in range(rank)])
