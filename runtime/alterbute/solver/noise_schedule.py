"""A checkpoint's noise schedule with torch's float32 rounding, so that small sigmas agree with diffusers'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def accumulate_signal(betas: NDArray[np.float32], *, to_zero_snr: bool) -> Floats:
    """Cumulative signal power [T] f64 at each training timestep, rounded to float32; `to_zero_snr` rescales it to end at 0."""
    alphas = np.float32(1) - betas
    if to_zero_snr:
        alphas = _without_terminal_signal(alphas)
    # torch.cumprod accumulates float32 in double and rounds each element; so does this.
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32).astype(np.float64)


def explicit_betas(betas: Sequence[float]) -> NDArray[np.float32]:
    """The `trained_betas` of a config as [T] f32."""
    return np.array(betas, np.float32)


def linear_betas(start: float, end: float, count: int) -> NDArray[np.float32]:
    """`beta_schedule` "linear", equal to `torch.linspace` in float32 to the bit: computed from both ends with one rounding.

    Args:
        start: First beta.
        end: Last beta.
        count: Number of betas T.

    Returns:
        [T] f32.
    """
    low, high = np.float32(start), np.float32(end)
    step = float(np.float32((high - low) / np.float32(count - 1)))
    index = np.arange(count)
    points = np.where(index < count // 2, float(low) + step * index, float(high) - step * (count - 1 - index))
    return points.astype(np.float32)


def scaled_linear_betas(start: float, end: float, count: int) -> NDArray[np.float32]:
    """`beta_schedule` "scaled_linear", the schedule of Stable Diffusion: linear in the square root of beta.

    Args:
        start: First beta.
        end: Last beta.
        count: Number of betas T.

    Returns:
        [T] f32.
    """
    betas: NDArray[np.float32] = linear_betas(start**0.5, end**0.5, count) ** 2
    return betas


def cosine_betas(count: int) -> NDArray[np.float32]:
    """`beta_schedule` "squaredcos_cap_v2" [T] f32 (arXiv:2102.09672, equation 17, betas capped at 0.999)."""
    bars = [math.cos((k / count + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(count + 1)]
    return np.array([min(1 - after / now, 0.999) for now, after in pairwise(bars)], np.float32)


def _without_terminal_signal(alphas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Algorithm 1 of arXiv:2305.08891 in float32: shift and scale so that the last timestep has no signal."""
    roots = np.sqrt(np.cumprod(alphas.astype(np.float64)).astype(np.float32))
    first, last = roots[0], roots[-1]
    bars = ((roots - last) * (first / (first - last))) ** 2
    ratios: NDArray[np.float32] = np.concatenate([bars[:1], bars[1:] / bars[:-1]])
    # diffusers stores betas = 1 - alpha and recomputes alpha from them; the same two roundings are made here.
    return np.float32(1) - (np.float32(1) - ratios)
