"""Solvers as matrices: one UNet call is `S' = W @ [S ; y ; z]`, in unit-variance space.

The rows of S are the latent x and the solver's history; y is the guided UNet output and z is fresh noise. Solvers differ only
in the numbers of W: prediction type, order, warm-up, last step and added noise.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from alterbute.solver.noise_levels import NoiseLevels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import PredictionType, SchedulerConfig

STATE_ROWS: Final = 4
"""K, the number of state rows: enough for every solver; PLMS needs all of them."""
OUTPUT: Final = STATE_ROWS
"""Column of the UNet output y."""
NOISE: Final = STATE_ROWS + 1
"""Column of the fresh noise z."""
_EQUAL: Final = 1e-9
"""Levels that differ by less in log(a/s) are equal."""


def first_order(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile DDIM, Euler (eta 0) or Euler ancestral (eta 1), which differ only in their grids.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Share of the removed noise that is drawn afresh, 0..1.

    Returns:
        [n - first, K, K+2] f64, one matrix W per UNet call.
    """
    steps = range(first, len(levels.timestep))
    return np.stack([first_order_step(levels, k, scheduler.prediction_type, eta) for k in steps])


def first_order_step(levels: NoiseLevels, k: int, prediction: PredictionType, eta: float) -> Floats:
    """Matrix of a first-order step: x' = r x + (a' - r a) clean + w z; the other state rows become 0.

    Args:
        levels: The noise levels of all steps.
        k: Index of the step, 0..n-1.
        prediction: Prediction type of the UNet.
        eta: Share of the removed noise that is drawn afresh, 0..1.

    Returns:
        [K,K+2] f64.
    """
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
    """Row [K+2] f64 of the latent after a first-order step between two levels, and the weight w of its fresh noise.

    Args:
        here: (a, s), the level that the step starts from.
        there: (a', s'), the level that the step reaches.
        prediction: Prediction type of the UNet.
        eta: Share of the removed noise that is drawn afresh, 0..1.
        latent: [K+2] row of the latent; None is state row 0.
        output: [K+2] row of the UNet output; None is the output of this call.
    """
    (signal, noise), (next_signal, next_noise) = here, there
    ratio = (next_noise * signal) / (next_signal * noise)
    fresh = eta * next_noise * math.sqrt(max(0.0, 1 - ratio * ratio))
    latent_weight = math.sqrt(next_noise**2 - fresh**2) / noise
    row = (next_signal - latent_weight * signal) * clean_estimate(here, prediction, latent=latent, output=output)
    return row + latent_weight * (unit(0) if latent is None else latent), fresh


def clean_estimate(
    level: Floats, prediction: PredictionType, *, latent: Floats | None = None, output: Floats | None = None
) -> Floats:
    """Row [K+2] f64 of the clean latent that follows from a latent and the UNet's output at a level.

    Args:
        level: (a, s), the level of the latent.
        prediction: Prediction type of the UNet.
        latent: [K+2] row of the latent; None is state row 0.
        output: [K+2] row of the UNet output; None is the output of this call.
    """
    signal, noise = level
    latent = unit(0) if latent is None else latent
    output = unit(OUTPUT) if output is None else output
    row: Floats = output
    if prediction == "epsilon":
        row = (latent - noise * output) / signal
    elif prediction == "v_prediction":
        row = signal * latent - noise * output
    return row


def unit(column: int) -> Floats:
    """Unit row [K+2] f64, which selects one column: a state row, the UNet output or the noise."""
    row = np.zeros(STATE_ROWS + 2)
    row[column] = 1
    return row


def log_snr_gaps(levels: NoiseLevels) -> Floats:
    """Length of each step in log(a/s), [n] f64; infinite where no noise is left, 0 between equal levels."""
    points = np.append(levels.here, levels.there[-1:], axis=0)
    with np.errstate(divide="ignore"):
        gaps: Floats = np.diff(np.log(points[:, 0]) - np.log(points[:, 1]))
    # Sigmas that are spread up to the final one may differ from it in the last bit.
    gaps[np.abs(gaps) < _EQUAL] = 0
    return gaps


def usable_order(gaps: Floats, k: int, first: int, max_order: int) -> int:
    """The highest order for which step k has enough history.

    A step of length 0 (its timestep was rounded to its neighbour) and one of infinite length (it ends without noise) cannot be
    extrapolated over.

    Args:
        gaps: [n] f64, from `log_snr_gaps`.
        k: Index of the step, 0..n-1.
        first: Index of the trajectory's first step, 0..k.
        max_order: Order of the solver.
    """
    if not 0 < gaps[k] < math.inf:
        return 1
    order = 1
    while order < min(max_order, k - first + 1) and gaps[k - order] > 0:
        order += 1
    return order
