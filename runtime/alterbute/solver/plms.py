"""PLMS: the pseudo linear multistep method of PNDM (arXiv:2202.09778), without its Runge-Kutta start."""

from __future__ import annotations

from typing import Final

import numpy as np

from alterbute.solver.matrices import OUTPUT, STATE_ROWS, step_between, unit
from alterbute.solver.noise_levels import NoiseLevels, level_of
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import SchedulerConfig

_ANCHOR: Final = 3
"""State row that holds the first latent between the first two calls, and later the oldest output."""
_ADAMS: Final = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Adams-Bashforth weights of the current output and the previous ones, by number of outputs."""
_OUTPUTS: Final = (OUTPUT, 1, 2, 3)
"""Columns of the current output and the previous ones."""


def plms_calls(first: int, count: int) -> list[int]:
    """Index of the step at whose level each UNet call runs; the second occurs twice, because the first step is repeated."""
    return [first, *([first + 1] if count - first > 1 else []), *range(first + 1, count)]


def plms(levels: NoiseLevels, scheduler: SchedulerConfig, first: int, eta: float) -> Floats:
    """Compile PLMS; state rows 1, 2 and 3 hold the last three UNet outputs.

    Args:
        levels: The noise levels of all n steps.
        scheduler: The checkpoint's scheduler config.
        first: Index of the trajectory's first step, 0..n-1.
        eta: Share of the removed noise that is drawn afresh; always 0 for this solver.

    Returns:
        [n - first + 1, K, K+2] f64, one matrix W per UNet call; a single matrix for a single step.
    """
    calls, prediction = plms_calls(first, len(levels.timestep)), scheduler.prediction_type
    stride = scheduler.train_steps // len(levels.timestep)
    matrices = []
    for call, k in enumerate(calls):
        here, there = levels.here[k], levels.there[k]
        latent, output, matrix = unit(0), np.zeros(STATE_ROWS + 2), np.zeros((STATE_ROWS, STATE_ROWS + 2))
        if call == 1:
            # As in diffusers, the repeated step starts one stride above, which is not always the level of the first call.
            here, there = level_of(scheduler.alphas_cumprod[int(levels.timestep[k]) + stride]), here
            latent, output = unit(_ANCHOR), (unit(OUTPUT) + unit(1)) / 2
            matrix[1] = unit(1)
        else:
            weights = _ADAMS[max(min(call, 4) - 1, 0)]
            output[list(_OUTPUTS[: len(weights)])] = weights
            matrix[1] = unit(OUTPUT)
            if call == 0:
                matrix[_ANCHOR] = unit(0)
            else:
                matrix[2], matrix[3] = unit(1), unit(2)
        matrix[0], _ = step_between(here, there, prediction, eta, latent=latent, output=output)
        matrices.append(matrix)
    return np.stack(matrices)
