"""Solvers as data: a scheduler config, a solver's name and a number of steps are compiled to one small matrix per UNet call.

The matrices reproduce diffusers' schedulers (tests compare every trajectory, with limit 1e-5). No solver code runs while an
image is denoised, in any language.
"""

from __future__ import annotations

from alterbute.solver.matrices import NOISE, OUTPUT, STATE_ROWS
from alterbute.solver.scheduler_config import PREDICTION_TYPES, SIGMAS, SPACINGS
from alterbute.solver.trajectory import SOLVERS, Trajectory, compile_trajectory

__all__ = [
    "NOISE",
    "OUTPUT",
    "PREDICTION_TYPES",
    "SIGMAS",
    "SOLVERS",
    "SPACINGS",
    "STATE_ROWS",
    "Trajectory",
    "compile_trajectory",
]
