"""DPM-Solver++ multistep (arXiv:2211.01095): extrapolates the clean estimates of the last steps."""

from __future__ import annotations

import math

import numpy as np

from alterbute.solver.matrices import clean_estimate, first_order_step, log_snr_gaps, unit, usable_order
from alterbute.solver.noise_levels import NoiseLevels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import SchedulerConfig

_FEW_STEPS = 15
"""With fewer steps than this, `lower_order_final` lowers the order of the last steps."""


def dpmpp_2m(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile DPM-Solver++ 2M (eta 0) or its SDE form (eta 1); state row 1 holds the last clean estimate.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Share of the removed noise that is drawn afresh: 0, or 1 for the SDE form.

    Returns:
        [n - first, K, K+2] f64, one matrix W per UNet call.
    """
    return _multistep(levels, scheduler, first, eta, 2)


def dpmpp_3m(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile DPM-Solver++ 3M; state rows 1 and 2 hold the last two clean estimates.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Share of the removed noise that is drawn afresh; always 0 for this solver.

    Returns:
        [n - first, K, K+2] f64, one matrix W per UNet call.
    """
    return _multistep(levels, scheduler, first, eta, 3)


def _multistep(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float, order: int) -> Floats:
    count, gaps = len(levels.timestep), log_snr_gaps(levels)
    matrices = []
    for k in range(first, count):
        matrix = first_order_step(levels, k, scheduler.prediction_type, eta)
        clean = clean_estimate(levels.here[k], scheduler.prediction_type)
        usable = usable_order(gaps, k, first, min(order, _planned_order(k, count, scheduler)))
        if usable > 1:
            matrix[0] += _correction(gaps[: k + 1], clean, float(levels.there[k, 0]), usable, scheduler, eta)
        matrix[1] = clean
        if order == 3 and k > first:
            matrix[2] = unit(1)
        matrices.append(matrix)
    return np.stack(matrices)


def _planned_order(k: int, count: int, scheduler: SchedulerConfig) -> int:
    """Highest order that the config allows in step k: 1 if the step ends without noise, lower at the end of few steps."""
    lowers = scheduler.lower_order_final and count < _FEW_STEPS
    if k == count - 1 and (scheduler.final_sigmas_type == "zero" or scheduler.euler_at_final or lowers):
        return 1
    return 2 if k == count - 2 and lowers else 3


def _correction(
    gaps: Floats, clean: Floats, signal: float, order: int, scheduler: SchedulerConfig, eta: float
) -> Floats:
    """Row [K+2] that a higher order adds to a first-order step.

    Args:
        gaps: Lengths of the steps in log SNR, up to and including h of this step.
        clean: [K+2] row of this step's clean estimate.
        signal: a' of the level that the step reaches.
        order: 2 or 3.
        scheduler: The checkpoint's scheduler config.
        eta: 0, or 1 for the SDE form.
    """
    gap = float(gaps[-1])
    last_ratio = gaps[-2] / gap
    slope = (clean - unit(1)) / last_ratio
    exponent = gap * (1 + eta)
    change = -math.expm1(-exponent)
    if order == 2:
        weight = 1 - change / exponent if scheduler.solver_type == "heun" else change / 2
        second: Floats = signal * weight * slope
        return second
    older_ratio = gaps[-3] / gap
    older_slope = (unit(1) - unit(2)) / older_ratio
    bend = (slope - older_slope) / (last_ratio + older_ratio)
    third: Floats = (1 - change / gap) * (slope + last_ratio * bend) - ((gap - change) / gap**2 - 0.5) * bend
    return signal * third
