"""Solvers as matrices: one step is `S' = W @ [S ; y ; z]`, in unit-variance space.

Rows of S are the latent x and what a solver remembers; y is the guided UNet output and z fresh noise. Everything
that makes solvers differ (prediction type, order, warm-up, last step, added noise) is in the numbers of W.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from alterbute.solver.schedule import Schedule
from alterbute.solver.scheduler import Floats, PredictionType, Scheduler

STATE_ROWS: Final = 4
"""K: enough for every solver that is planned; the demo's needs two."""
OUTPUT: Final = STATE_ROWS
"""Column of the UNet output y."""
NOISE: Final = STATE_ROWS + 1
"""Column of the fresh noise z."""


def first_order(schedule: Schedule, scheduler: Scheduler, first: int, eta: float) -> Floats:
    """DDIM, Euler (eta 0) and Euler ancestral (eta 1): they differ in their grids only.

    Args:
        schedule: The levels of all n steps.
        scheduler: The checkpoint's config.
        first: The step that the trajectory starts with.
        eta: How much of the removed noise is drawn afresh, 0..1.

    Returns:
        [n - first, K, K+2] f64.
    """
    steps = range(first, len(schedule.timestep))
    return np.stack([_first_order_step(schedule, k, scheduler.prediction_type, eta) for k in steps])


def dpmpp_2m(schedule: Schedule, scheduler: Scheduler, first: int, eta: float) -> Floats:
    """DPM-Solver++ 2M (eta 0) and its SDE form (eta 1); row 1 keeps the last clean estimate.

    Arguments and result as `first_order`.
    """
    count = len(schedule.timestep)
    log_snr = _log_snr(schedule)
    matrices = []
    for k in range(first, count):
        matrix = _first_order_step(schedule, k, scheduler.prediction_type, eta)
        clean = clean_estimate(schedule, k, scheduler.prediction_type)
        gap, last_gap = log_snr[k + 1] - log_snr[k], log_snr[k] - log_snr[max(k - 1, 0)]
        # A gap of 0 is a timestep that was rounded onto its neighbour: nothing to extrapolate from.
        if k > first and not _is_first_order_end(k, count, scheduler) and gap > 0 and last_gap > 0:
            slope = _slope_weight(schedule, k, float(gap), scheduler.is_heun, eta) * gap / last_gap
            matrix[0] += slope * clean
            matrix[0, 1] -= slope
        matrix[1] = clean
        matrices.append(matrix)
    return np.stack(matrices)


def clean_estimate(schedule: Schedule, k: int, prediction: PredictionType) -> Floats:
    """[K+2] row of the clean latent that the UNet output of step k means."""
    signal, noise = schedule.here[k]
    row = np.zeros(STATE_ROWS + 2)
    if prediction == "epsilon":
        row[0], row[OUTPUT] = 1 / signal, -noise / signal
    elif prediction == "v_prediction":
        row[0], row[OUTPUT] = signal, -noise
    else:
        row[OUTPUT] = 1
    return row


def _first_order_step(schedule: Schedule, k: int, prediction: PredictionType, eta: float) -> Floats:
    """[K,K+2]: x' = r x + (a' - r a) clean + w z; the other rows forget."""
    (signal, noise), (next_signal, next_noise) = schedule.here[k], schedule.there[k]
    ratio = (next_noise * signal) / (next_signal * noise)
    fresh = eta * next_noise * math.sqrt(max(0.0, 1 - ratio * ratio))
    kept = math.sqrt(next_noise**2 - fresh**2) / noise
    matrix = np.zeros((STATE_ROWS, STATE_ROWS + 2))
    matrix[0] = (next_signal - kept * signal) * clean_estimate(schedule, k, prediction)
    matrix[0, 0] += kept
    matrix[0, NOISE] = fresh
    return matrix


def _slope_weight(schedule: Schedule, k: int, gap: float, is_heun: bool, eta: float) -> float:
    """Weight of the clean estimate's slope over a step of `gap` in log SNR (half of it, for the SDE twice)."""
    exponent = gap * (1 + eta)
    change = -math.expm1(-exponent)
    return float(schedule.there[k, 0]) * (1 - change / exponent if is_heun else change / 2)


def _log_snr(schedule: Schedule) -> Floats:
    """[n+1] f64, log of a/s; infinite where no noise is left."""
    levels = np.append(schedule.here, schedule.there[-1:], axis=0)
    with np.errstate(divide="ignore"):
        return np.log(levels[:, 0]) - np.log(levels[:, 1])


def _is_first_order_end(k: int, count: int, scheduler: Scheduler) -> bool:
    """The last step falls back to first order: always onto no noise, and where few steps make 2M unstable."""
    return k == count - 1 and (
        scheduler.final_sigmas_type == "zero"
        or scheduler.euler_at_final
        or (scheduler.lower_order_final and count < 15)
    )
