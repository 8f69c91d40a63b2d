"""Latent consistency sampling (arXiv:2310.04378): predict the clean latent and add fresh noise, at each step."""

from __future__ import annotations

import numpy as np

from alterbute.solver.matrices import NOISE, STATE_ROWS, clean_estimate, unit
from alterbute.solver.noise_levels import NoiseLevels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import SchedulerConfig

_SIGMA_DATA = 0.5


def lcm(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile x' = a' (c_out clean + c_skip x) + s' z; the last step returns the clean latent.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Ignored: this solver draws all noise afresh.

    Returns:
        [n - first, K, K+2] f64, one matrix W per UNet call.
    """
    matrices = []
    for k in range(first, len(levels.timestep)):
        time = scheduler.timestep_scaling * float(levels.timestep[k])
        skip = _SIGMA_DATA**2 / (time**2 + _SIGMA_DATA**2)
        out = time / np.sqrt(time**2 + _SIGMA_DATA**2)
        signal, noise = levels.there[k]
        matrix = np.zeros((STATE_ROWS, STATE_ROWS + 2))
        matrix[0] = signal * (out * clean_estimate(levels.here[k], scheduler.prediction_type) + skip * unit(0))
        matrix[0, NOISE] = noise
        matrices.append(matrix)
    return np.stack(matrices)
