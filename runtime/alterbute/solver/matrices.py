"""Solvers as matrices: one UNet call is `S' = W @ [S ; y ; z]`, in unit-variance space.

Rows of S are the latent x and what a solver remembers; y is the guided UNet output and z fresh noise. Everything
that makes solvers differ (prediction type, order, warm-up, last step, added noise) is in the numbers of W.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from alterbute.solver.noise_levels import NoiseLevels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import PredictionType, SchedulerConfig

STATE_ROWS: Final = 4
"""K: enough for every solver; PLMS needs all of them."""
OUTPUT: Final = STATE_ROWS
"""Column of the UNet output y."""
NOISE: Final = STATE_ROWS + 1
"""Column of the fresh noise z."""
_EQUAL: Final = 1e-9


def first_order(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """DDIM, Euler (eta 0) and Euler ancestral (eta 1): they differ in their grids only.

    Args:
        schedule: The levels of all n steps.
        scheduler: The checkpoint's config.
        first: The step that the trajectory starts with.
        eta: How much of the removed noise is drawn afresh, 0..1.

    Returns:
        [n - first, K, K+2] f64.
    """
    steps = range(first, len(levels.timestep))
    return np.stack([first_order_step(levels, k, scheduler.prediction_type, eta) for k in steps])


def first_order_step(levels: NoiseLevels, k: int, prediction: PredictionType, eta: float) -> Floats:
    """[K,K+2]: x' = r x + (a' - r a) clean + w z; the other rows forget."""
    matrix = np.zeros((STATE_ROWS, STATE_ROWS + 2))
    matrix[0], matrix[0, NOISE] = step_between(levels.here[k], levels.there[k], prediction, eta)
    return matrix


def step_between(
    here: Floats,
    there: Floats,
    prediction: PredictionType,
    eta: float = 0.0,
    *,
    latent: Floats | None = None,
    output: Floats | None = None,
) -> tuple[Floats, float]:
    """[K+2] row of the latent that a first-order step between two levels gives, without its noise, and w.

    Args:
        here: (a, s) of the latent.
        there: (a', s') that is reached.
        eta: As for `first_order`.
        latent: [K+2] row of the latent; None is state row 0.
        output: [K+2] row of the UNet output; None is this call's.
    """
    (signal, noise), (next_signal, next_noise) = here, there
    ratio = (next_noise * signal) / (next_signal * noise)
    fresh = eta * next_noise * math.sqrt(max(0.0, 1 - ratio * ratio))
    kept = math.sqrt(next_noise**2 - fresh**2) / noise
    row = (next_signal - kept * signal) * clean_estimate(here, prediction, latent=latent, output=output)
    return row + kept * (unit(0) if latent is None else latent), fresh


def clean_estimate(
    level: Floats, prediction: PredictionType, *, latent: Floats | None = None, output: Floats | None = None
) -> Floats:
    """[K+2] row of the clean latent that a UNet output at this level means; arguments as for `step_between`."""
    signal, noise = level
    seen = unit(0) if latent is None else latent
    said = unit(OUTPUT) if output is None else output
    row: Floats = said
    if prediction == "epsilon":
        row = (seen - noise * said) / signal
    elif prediction == "v_prediction":
        row = signal * seen - noise * said
    return row


def unit(column: int) -> Floats:
    """[K+2] row that takes one state row, the output or the noise as it is."""
    row = np.zeros(STATE_ROWS + 2)
    row[column] = 1
    return row


def log_snr_gaps(levels: NoiseLevels) -> Floats:
    """[n] f64, how far each step goes in log(a/s); infinite where no noise is left, 0 between equal levels."""
    points = np.append(levels.here, levels.there[-1:], axis=0)
    with np.errstate(divide="ignore"):
        gaps: Floats = np.diff(np.log(points[:, 0]) - np.log(points[:, 1]))
    # Sigmas that are spread onto the final one may miss it by a last bit.
    gaps[np.abs(gaps) < _EQUAL] = 0
    return gaps


def usable_order(gaps: Floats, k: int, first: int, wanted: int) -> int:
    """The order that the past of step k allows.

    A gap of 0 is a timestep that was rounded onto its neighbour, and one of infinity ends without noise: there is
    nothing to extrapolate over.
    """
    if not 0 < gaps[k] < math.inf:
        return 1
    order = 1
    while order < min(wanted, k - first + 1) and gaps[k - order] > 0:
        order += 1
    return order
