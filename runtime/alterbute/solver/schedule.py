"""Which noise levels a solver visits: one function per grid, as diffusers lays them.

A level is `(a, s)`: how much signal and how much noise of unit variance a latent holds, a^2 + s^2 = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.solver.scheduler import SPACINGS, Floats, Scheduler

Grid: TypeAlias = Literal["ddim", "dpm", "euler", "euler_a"]

DEFAULT_SPACING: Final[dict[Grid, str]] = {"ddim": "leading", "dpm": "linspace", "euler": "linspace", "euler_a": "linspace"}
_EULER: Final = ("euler", "euler_a")
# diffusers keeps a trace of signal here, so that sigma stays finite.
_ALMOST_NO_SIGNAL: Final = 2.0**-24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """The levels of n steps.

    Args:
        timestep: [n] f32, what the UNet is told; fractional on the Euler grid.
        here: [n,2] f64, the level that each step starts from.
        there: [n,2] f64, the level that each step reaches.
        start_noise: Scale of the noise that the first latent is made of, 1 but on the Euler grid.
    """

    timestep: NDArray[np.float32]
    here: Floats
    there: Floats
    start_noise: float


def make_schedule(scheduler: Scheduler, grid: Grid, steps: int, spacing: str | None) -> Schedule:
    """The levels of `steps` steps on a grid.

    Args:
        spacing: One of SPACINGS; None takes the config's, or the default of the grid's diffusers class.

    Raises:
        InputError: an unknown spacing, or more steps than the grid has room for.
    """
    spacing = spacing or scheduler.timestep_spacing or DEFAULT_SPACING[grid]
    if spacing not in SPACINGS:
        raise InputError(
            f"the spacing is {spacing!r}", f"one of {', '.join(SPACINGS)}", "choose one of those", "spacing", "spacing_unknown"
        )
    if not 1 <= steps <= scheduler.train_steps:
        raise _steps_error(steps, f"1 to {scheduler.train_steps}, the timesteps that the checkpoint was trained on")
    timestep = _timesteps(scheduler, grid, steps, spacing)
    if timestep[0] > scheduler.train_steps - 1 or (steps > 1 and timestep[0] == timestep[-1]):
        raise _steps_error(steps, f"fewer with {spacing} spacing and steps_offset {scheduler.steps_offset}")
    if grid == "ddim":
        return _ddim(scheduler, timestep)
    return _sigmas(scheduler, timestep, grid, spacing)


def _timesteps(scheduler: Scheduler, grid: Grid, steps: int, spacing: str) -> Floats:
    """[n] f64, falling. The DPM grid leaves out the last of n + 1 points, which the final level stands for."""
    total, points = scheduler.train_steps, steps + (grid == "dpm")
    if spacing == "trailing":
        # The last point of this arange may be a rounding error above 0, hence the cut.
        return _rounded(np.arange(total, 0, -total / steps)[:steps]) - 1
    if spacing == "leading":
        return np.arange(points, dtype=np.float64)[::-1][:steps] * (total // points) + scheduler.steps_offset
    line = np.linspace(0, total - 1, points)[::-1][:steps]
    # float32 as in diffusers: the sigmas between two timesteps are interpolated at this very value.
    return line.astype(np.float32).astype(np.float64) if grid in _EULER else _rounded(line)


def _rounded(points: Floats) -> Floats:
    """Half to even, as diffusers rounds."""
    whole: Floats = np.round(points)
    return whole


def _ddim(scheduler: Scheduler, timestep: Floats) -> Schedule:
    """A step reaches `t - T // n`, whatever the next step starts from: the two differ unless n divides T."""
    powers = scheduler.alphas_cumprod
    final = 1.0 if scheduler.set_alpha_to_one else powers[0]
    index = timestep.astype(np.int64)
    reached = index - scheduler.train_steps // len(index)
    power = np.where(reached >= 0, powers[reached], final)
    return Schedule(
        timestep=timestep.astype(np.float32), here=_level(powers[index]), there=_level(power), start_noise=1.0
    )


def _sigmas(scheduler: Scheduler, timestep: Floats, grid: Grid, spacing: str) -> Schedule:
    """Levels by sigma = s/a, interpolated between training timesteps; the last is no noise, or the least trained."""
    powers = scheduler.alphas_cumprod.copy()
    if scheduler.is_zero_snr:
        powers[-1] = _ALMOST_NO_SIGNAL
    trained = np.sqrt((1 - powers) / powers)
    sigma = np.interp(timestep, np.arange(len(trained)), trained)
    # The ancestral class has no such key: it always ends clean.
    last = 0.0 if grid == "euler_a" or scheduler.final_sigmas_type == "zero" else trained[0]
    levels = _level(1 / (1 + np.append(sigma, last) ** 2))
    return Schedule(
        timestep=timestep.astype(np.float32),
        here=levels[:-1],
        there=levels[1:],
        start_noise=float(levels[0, 1]) if grid in _EULER and spacing != "leading" else 1.0,
    )


def _level(power: Floats) -> Floats:
    """Signal power [n] to levels [n,2]."""
    return np.stack([np.sqrt(power), np.sqrt(1 - power)], axis=1)


def _steps_error(steps: int, expected: str) -> InputError:
    return InputError(f"steps is {steps}", expected, "choose another number of steps", "steps", "steps_out_of_range")
