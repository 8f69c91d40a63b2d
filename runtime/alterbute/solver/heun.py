"""Heun's method (arXiv:2206.00364, algorithm 1 without churn): two UNet calls per step, one for the last."""

from __future__ import annotations

import numpy as np

from alterbute.solver.matrices import STATE_ROWS, clean_estimate, first_order_step, unit
from alterbute.solver.noise_levels import NoiseLevels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import SchedulerConfig


def heun_calls(first: int, count: int) -> list[int]:
    """Index of the step at whose level each UNet call runs: Euler prediction, then correction at the level reached."""
    return [first, *(k for k in range(first + 1, count) for _ in range(2))]


def heun(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile Heun's method; state row 1 holds u, the corrected latent without the second call's contribution.

    In terms of X = x/a, a step of length dt in sigma, with the derivatives D and D' at its ends, is X + dt (D + D')/2.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Share of the removed noise that is drawn afresh; always 0 for this solver.

    Returns:
        [2 (n - first) - 1, K, K+2] f64, one matrix W per UNet call.
    """
    count, prediction = len(levels.timestep), scheduler.prediction_type
    sigma = levels.here[:, 1] / levels.here[:, 0]
    matrices = []
    for k in range(first, count):
        clean, signal = clean_estimate(levels.here[k], prediction), levels.here[k, 0]
        if k > first:
            correction = np.zeros((STATE_ROWS, STATE_ROWS + 2))
            correction[0] = unit(1) + (sigma[k] - sigma[k - 1]) / (2 * sigma[k]) * (unit(0) - signal * clean)
            matrices.append(correction)
        prediction_matrix = first_order_step(levels, k, prediction, eta)
        if k < count - 1:
            half = (sigma[k + 1] - sigma[k]) / (2 * sigma[k])
            prediction_matrix[1] = levels.there[k, 0] * (unit(0) / signal + half * (unit(0) / signal - clean))
        matrices.append(prediction_matrix)
    return np.stack(matrices)
