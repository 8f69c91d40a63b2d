"""Compiles a scheduler config, a solver's name and a number of steps to one matrix per UNet call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.solver.dpm_solver import dpmpp_2m, dpmpp_3m
from alterbute.solver.heun import heun, heun_calls
from alterbute.solver.lcm import lcm
from alterbute.solver.matrices import NOISE, first_order
from alterbute.solver.noise_levels import NoiseLevels, make_noise_levels
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.plms import plms, plms_calls
from alterbute.solver.scheduler_config import Grid, SchedulerConfig, parse_scheduler_config
from alterbute.solver.unipc import unipc


def _one_call_per_step(first: int, count: int) -> list[int]:
    return list(range(first, count))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solver:
    """A solver: its grid, its matrices, its eta (None: the caller's) and the step of each of its UNet calls."""

    grid: Grid
    matrices: Callable[[NoiseLevels, SchedulerConfig, int, float], Floats]
    eta: float | None = 0.0
    calls: Callable[[int, int], list[int]] = _one_call_per_step


SOLVERS: Final[Mapping[str, _Solver]] = {
    "ddim": _Solver(grid="ddim", matrices=first_order, eta=None),
    "euler": _Solver(grid="euler", matrices=first_order),
    "euler_a": _Solver(grid="euler_a", matrices=first_order, eta=1.0),
    "heun": _Solver(grid="heun", matrices=heun, calls=heun_calls),
    "dpmpp_2m": _Solver(grid="dpm", matrices=dpmpp_2m),
    "dpmpp_2m_sde": _Solver(grid="dpm", matrices=dpmpp_2m, eta=1.0),
    "dpmpp_3m": _Solver(grid="dpm", matrices=dpmpp_3m),
    "unipc": _Solver(grid="unipc", matrices=unipc),
    "lcm": _Solver(grid="lcm", matrices=lcm),
    "plms": _Solver(grid="plms", matrices=plms, calls=plms_calls),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """A solver compiled for n UNet calls.

    For most solvers, n is the number of steps; `heun` makes 2 * steps - 1 calls and `plms` steps + 1 (1 for 1 step).

    Args:
        timestep: [n] f32, the UNet's timestep at each call.
        matrix: [n,K,K+2] f64, W of each call; the columns are the K state rows, the UNet output and fresh noise.
        level: [n,2] f64, signal and noise scale (a', s') of the level that each call reaches; (1, 0) at the last.
        start: [2] f64, signal and noise scale of the first latent: `start[0] * photo + start[1] * noise`.
    """

    timestep: NDArray[np.float32]
    matrix: Floats
    level: Floats
    start: Floats

    @property
    def is_noisy(self) -> NDArray[np.bool_]:
        """Whether each call draws fresh noise, [n] bool."""
        noisy: NDArray[np.bool_] = np.any(self.matrix[:, :, NOISE] != 0, axis=1)
        return noisy


def compile_trajectory(
    scheduler_config: Mapping[str, object],
    solver: str,
    steps: int,
    *,
    strength: float = 1.0,
    eta: float = 0.0,
    spacing: str | None = None,
    sigmas: str | None = None,
) -> Trajectory:
    """Compile a solver to the matrices and noise levels of its UNet calls.

    The order and form of `unipc` (`solver_order`, `solver_type`), the second-order form of the `dpmpp` solvers, the final
    sigma and LCM's distillation steps come from the config; keys that do not affect the solver are ignored.

    Args:
        scheduler_config: The config of a diffusers scheduler, of any class.
        solver: One of SOLVERS.
        steps: Number of steps from pure noise, 1..T; a `strength` below 1 runs only the last of them. `heun` calls the UNet
            twice per step except the last, `plms` once more than the steps.
        strength: Above 0, to 1: 1 starts from pure noise, a lower value from the photo under that share of the steps' noise
            (SDEdit).
        eta: 0..1, for `ddim`: 0 is deterministic, 1 draws as much fresh noise as DDPM.
        spacing: One of SPACINGS; None takes the config's. Ignored by `lcm`.
        sigmas: One of SIGMAS, for `euler`, `heun`, `unipc` and the `dpmpp` solvers: "karras" and "exponential" spread the
            sigmas by a rule, "normal" follows the spacing. None takes the config's.

    Raises:
        InputError: the solver, spacing or sigmas is unknown; or steps, strength or eta is out of range.
        BundleError: the config has an unsupported key or value.
    """
    spec = SOLVERS.get(solver)
    if spec is None:
        raise _input_error("solver", solver, f"one of {', '.join(SOLVERS)}", "unknown")
    if not 0 < strength <= 1:
        raise _input_error("strength", strength, "more than 0, at most 1", "out_of_range")
    if not 0 <= eta <= (1 if spec.eta is None else 0):
        raise _input_error("eta", eta, "0 to 1 with ddim, 0 with every other solver", "out_of_range")
    scheduler = parse_scheduler_config(scheduler_config, spec.grid)
    levels = make_noise_levels(scheduler, spec.grid, steps, spacing, sigmas)
    first = steps - int(steps * strength)
    if first == steps:
        raise _input_error("strength", strength, f"at least {1 / steps:g} with {steps} steps", "out_of_range")
    calls = spec.calls(first, steps)
    return Trajectory(
        timestep=levels.timestep[calls],
        matrix=spec.matrices(levels, scheduler, first, eta if spec.eta is None else spec.eta),
        level=np.concatenate([levels.here[calls[1:]], [[1.0, 0.0]]]),
        start=levels.here[first] if strength < 1 else np.array([0.0, levels.start_noise]),
    )


def _input_error(param: str, value: object, expected: str, code: str) -> InputError:
    return InputError(f"{param} is {value!r}", expected, f"choose another {param}", param, f"{param}_{code}")
