"""UniPC (arXiv:2302.04867): a multistep predictor whose latent is corrected once the next UNet output is available."""

from __future__ import annotations

import math

import numpy as np

from alterbute.solver.matrices import STATE_ROWS, clean_estimate, log_snr_gaps, unit, usable_order
from alterbute.solver.noise_levels import NoiseLevels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import SchedulerConfig

_CORRECTED = 1
"""State row of u, the part of the corrected latent that does not depend on the next UNet output."""


def unipc(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile UniPC of order 1, 2 or 3 in clean-latent form; state row 1 holds u, rows 2 and 3 the last clean estimates.

    The corrected latent of step k is c = u + g * (clean estimate of step k), with g of the previous step.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Share of the removed noise that is drawn afresh; always 0 for this solver.

    Returns:
        [n - first, K, K+2] f64, one matrix W per UNet call.
    """
    count, gaps, order = len(levels.timestep), log_snr_gaps(levels), scheduler.solver_order
    matrices, gain = [], 0.0
    for k in range(first, count):
        clean = clean_estimate(levels.here[k], scheduler.prediction_type)
        is_corrected = k > first and k - 1 not in scheduler.disable_corrector
        latent = unit(_CORRECTED) + gain * clean if is_corrected else unit(0)
        usable = usable_order(gaps, k, first, min(order, count - k) if scheduler.lower_order_final else order)
        matrix = np.zeros((STATE_ROWS, STATE_ROWS + 2))
        matrix[0], matrix[_CORRECTED], gain = _step_rows(
            levels, k, gaps, latent, clean, usable, is_bh1=scheduler.solver_type == "bh1"
        )
        if order > 1:
            matrix[2] = clean
        if order == 3 and k > first:
            matrix[3] = unit(2)
        matrices.append(matrix)
    return np.stack(matrices)


def _step_rows(
    levels: NoiseLevels, k: int, gaps: Floats, latent: Floats, clean: Floats, order: int, *, is_bh1: bool
) -> tuple[Floats, Floats, float]:
    """Rows [K+2] of the predicted latent and of u, and the scalar g of this step."""
    gap = float(gaps[k])
    (_, noise), (next_signal, next_noise) = levels.here[k], levels.there[k]
    if gap == 0:
        return latent, latent, 0.0
    if gap == math.inf:
        return next_signal * clean, np.zeros(STATE_ROWS + 2), 0.0
    base = (next_noise / noise) * latent - next_signal * math.expm1(-gap) * clean
    # Gaps back to the stored clean estimates, in units of this step's gap.
    ratios = np.array([-gaps[k - i : k].sum() / gap for i in range(1, order)])
    slopes = [(unit(1 + i) - clean) / ratio for i, ratio in enumerate(ratios, start=1)]
    weight = -gap if is_bh1 else math.expm1(-gap)
    moments, targets = _order_conditions(gap, weight, np.append(ratios, 1.0))
    predictor = [0.5] if order == 2 else np.linalg.solve(moments[:-1, :-1], targets[:-1])
    corrector = [0.5] if order == 1 else np.linalg.solve(moments, targets)
    predicted, corrected = base.copy(), base + next_signal * weight * corrector[-1] * clean
    for index, slope in enumerate(slopes):
        predicted -= next_signal * weight * predictor[index] * slope
        corrected -= next_signal * weight * corrector[index] * slope
    return predicted, corrected, float(-next_signal * weight * corrector[-1])


def _order_conditions(gap: float, weight: float, ratios: Floats) -> tuple[Floats, Floats]:
    """Matrix R [p,p] and vector b [p] of the order conditions R rho = b (equation 11), with B(h) = `weight`."""
    order = len(ratios)
    moments = ratios[None, :] ** np.arange(order)[:, None]
    phi, factorial, targets = math.expm1(-gap) / -gap - 1, 1, []
    for i in range(1, order + 1):
        targets.append(phi * factorial / weight)
        factorial *= i + 1
        phi = phi / -gap - 1 / factorial
    return moments, np.array(targets)
