"""Sigmas that are spread by a rule (karras, exponential) instead of the timestep spacing, as in diffusers.

sigma = s/a is the noise of a level relative to its signal. The UNet's timestep is then looked up by sigma.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import Grid, SchedulerConfig

_RHO = 7.0
# diffusers gives a timestep without signal this signal power, so that its sigma is finite.
_ALMOST_NO_SIGNAL = np.float32(2.0**-24)


def trained_sigmas(scheduler: SchedulerConfig) -> NDArray[np.float32]:
    """Sigma of each training timestep, [T] f32, rising, with the float32 values of diffusers."""
    powers = scheduler.alphas_cumprod.astype(np.float32)
    if scheduler.is_zero_snr:
        powers[-1] = _ALMOST_NO_SIGNAL
    sigmas: NDArray[np.float32] = np.sqrt((1 - powers) / powers)
    return sigmas


def spread_sigmas(kind: str, sigma_max: float, sigma_min: float, steps: int) -> Floats:
    """Spread sigmas between two extremes; returns [n] f64, falling.

    Args:
        kind: "karras" (arXiv:2206.00364, equation 5, rho 7) or "exponential" (even in log sigma).
        sigma_max: Largest sigma.
        sigma_min: Smallest sigma.
        steps: Number of sigmas n.
    """
    if kind == "karras":
        top, bottom = sigma_max ** (1 / _RHO), sigma_min ** (1 / _RHO)
        karras: Floats = (top + np.linspace(0, 1, steps) * (bottom - top)) ** _RHO
        return karras
    return np.exp(np.linspace(math.log(sigma_max), math.log(sigma_min), steps))


def look_up_timesteps(sigma: Floats, trained: NDArray[np.float32]) -> Floats:
    """Fractional training timesteps of sigmas, [n] f64, interpolated linearly in log sigma."""
    # In float32 where diffusers uses float32, because the rounding of a timestep may depend on the last bit.
    log_trained, log_sigma = np.log(trained), np.log(np.maximum(sigma, 1e-10))
    low = np.clip(np.searchsorted(log_trained, log_sigma, side="right") - 1, 0, len(trained) - 2)
    below, above = log_trained[low], log_trained[low + 1]
    weight = np.clip((below - log_sigma) / (below - above), 0, 1)
    timestep: Floats = (1 - weight) * low + weight * (low + 1)
    return timestep


def round_timesteps(timestep: Floats, kind: str, grid: Grid, *, is_cosine: bool) -> Floats:
    """Round the UNet's timesteps by the rule of a diffusers class: not at all, to nearest, or towards 0; returns [n] f64.

    Args:
        timestep: [n] f64, fractional timesteps.
        kind: One of SIGMAS.
        grid: The solver's grid, which stands for a diffusers class.
        is_cosine: Whether the betas are "squaredcos_cap_v2".
    """
    if grid not in ("dpm", "unipc"):
        return timestep
    is_rounded = kind == "karras" and (grid == "unipc" or not is_cosine)
    whole: Floats = np.round(timestep) if is_rounded else np.trunc(timestep)
    return whole
