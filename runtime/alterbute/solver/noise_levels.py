"""The noise levels of a solver's steps, by the rules of diffusers' scheduler classes.

A level is `(a, s)`: the scales of signal and of unit-variance noise in a latent, with a^2 + s^2 = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.solver.noise_schedule import Floats
from alterbute.solver.scheduler_config import SIGMAS, SPACINGS, Grid, SchedulerConfig, config_error
from alterbute.solver.sigmas import look_up_timesteps, round_timesteps, spread_sigmas, trained_sigmas

_LEADING: Final[tuple[Grid, ...]] = ("ddim", "plms")
"""Grids whose default spacing is "leading"; it is "linspace" for the others."""
_FRACTIONAL: Final[tuple[Grid, ...]] = ("euler", "euler_a", "heun")
"""Grids whose timesteps may lie between two training timesteps, and whose first latent is scaled by its sigma."""
_SPREAD: Final[tuple[Grid, ...]] = ("euler", "heun", "dpm", "unipc")
"""Grids whose sigmas may be spread by a rule (karras, exponential)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseLevels:
    """The levels of n steps.

    Args:
        timestep: [n] f32, the UNet's timestep; may be fractional.
        here: [n,2] f64, the level that each step starts from.
        there: [n,2] f64, the level that each step reaches.
        start_noise: Scale of the first latent's noise: 1, except on Euler's and Heun's grids.
    """

    timestep: NDArray[np.float32]
    here: Floats
    there: Floats
    start_noise: float


def make_noise_levels(
    scheduler: SchedulerConfig, grid: Grid, steps: int, spacing: str | None, sigmas: str | None
) -> NoiseLevels:
    """Compute the noise levels of a number of steps on a grid.

    Args:
        scheduler: The checkpoint's scheduler config.
        grid: The solver's grid.
        steps: Number of steps n, 1..T.
        spacing: One of SPACINGS; None takes the config's, or the default of the grid's diffusers class.
        sigmas: One of SIGMAS; None takes the config's if the grid supports it, else "normal".

    Raises:
        InputError: the spacing is unknown, the grid does not support the sigmas, or the number of steps.
    """
    spacing = spacing or scheduler.timestep_spacing or ("leading" if grid in _LEADING else "linspace")
    if spacing not in SPACINGS:
        raise _choice_error("spacing", spacing, SPACINGS)
    kind = _choose_sigmas(scheduler, grid, sigmas)
    if not 1 <= steps <= scheduler.train_steps:
        raise _steps_error(steps, f"1 to {scheduler.train_steps}, the timesteps that the checkpoint was trained on")
    if grid == "lcm":
        return _make_distilled_levels(scheduler, steps)
    if kind != "normal" and grid not in _FRACTIONAL:
        return _make_spread_levels(scheduler, grid, kind, steps)
    timestep = _space_timesteps(scheduler, grid, steps, spacing)
    if timestep[0] > scheduler.train_steps - 1 or (steps > 1 and timestep[0] == timestep[-1]):
        raise _steps_error(steps, f"fewer with {spacing} spacing and steps_offset {scheduler.steps_offset}")
    if grid in ("ddim", "plms"):
        return _make_whole_levels(scheduler, timestep, is_final_clean=grid == "ddim")
    trained = trained_sigmas(scheduler)
    sigma = np.interp(timestep, np.arange(len(trained)), trained)
    if kind != "normal":
        sigma = spread_sigmas(kind, *_sigma_range(scheduler, sigma[0], sigma[-1]), steps)
        timestep = look_up_timesteps(sigma, trained)
    is_final_clean = grid in ("euler_a", "heun") or scheduler.final_sigmas_type == "zero"
    levels = _make_sigma_levels(timestep, sigma, 0.0 if is_final_clean else float(trained[0]))
    if grid in _FRACTIONAL and spacing != "leading":
        return NoiseLevels(
            timestep=levels.timestep, here=levels.here, there=levels.there, start_noise=levels.here[0, 1]
        )
    return levels


def _space_timesteps(scheduler: SchedulerConfig, grid: Grid, steps: int, spacing: str) -> Floats:
    """Timesteps [n] f64, falling. The DPM and UniPC grids space n + 1 points and omit the last: the final level replaces it."""
    total, points = scheduler.train_steps, steps + (grid in ("dpm", "unipc"))
    if spacing == "trailing":
        # A rounding error may add a last point just above 0, hence the slice.
        return _round_half_even(np.arange(total, 0, -total / steps)[:steps]) - 1
    if spacing == "leading":
        return np.arange(points, dtype=np.float64)[::-1][:steps] * (total // points) + scheduler.steps_offset
    points_down = np.linspace(0, total - 1, points)[::-1][:steps]
    # Rounded to float32 as in diffusers, which interpolates the sigmas at exactly this value.
    return points_down.astype(np.float32).astype(np.float64) if grid in _FRACTIONAL else _round_half_even(points_down)


def _round_half_even(points: Floats) -> Floats:
    """Round half to even, as diffusers does."""
    whole: Floats = np.round(points)
    return whole


def _make_whole_levels(scheduler: SchedulerConfig, timestep: Floats, *, is_final_clean: bool) -> NoiseLevels:
    """Levels in which a step from t reaches `t - T // n`, even if the next step starts elsewhere (n does not divide T)."""
    powers = scheduler.alphas_cumprod
    is_clean = is_final_clean if scheduler.set_alpha_to_one is None else scheduler.set_alpha_to_one
    index = timestep.astype(np.int64)
    reached_index = index - scheduler.train_steps // len(index)
    power = np.where(reached_index >= 0, powers[reached_index], 1.0 if is_clean else powers[0])
    return NoiseLevels(
        timestep=timestep.astype(np.float32), here=level_of(powers[index]), there=level_of(power), start_noise=1.0
    )


def _make_distilled_levels(scheduler: SchedulerConfig, steps: int) -> NoiseLevels:
    """Levels of LCM: timesteps chosen evenly from those that the checkpoint was distilled on; the spacing is ignored."""
    original = scheduler.original_steps
    if steps > original:
        raise _steps_error(steps, f"1 to {original}, the steps that the checkpoint was distilled from")
    chosen = np.floor(np.linspace(0, original, steps, endpoint=False)).astype(np.int64)
    index = (original - chosen) * (scheduler.train_steps // original) - 1
    here = level_of(scheduler.alphas_cumprod[index])
    there = np.concatenate([here[1:], [[1.0, 0.0]]])
    return NoiseLevels(timestep=index.astype(np.float32), here=here, there=there, start_noise=1.0)


def _make_spread_levels(scheduler: SchedulerConfig, grid: Grid, kind: str, steps: int) -> NoiseLevels:
    """Levels of sigmas that are spread over the trained range, at whole timesteps; the spacing is ignored."""
    trained = trained_sigmas(scheduler)
    sigma = spread_sigmas(kind, *_sigma_range(scheduler, float(trained[-1]), float(trained[0])), steps)
    timestep = round_timesteps(look_up_timesteps(sigma, trained), kind, grid, is_cosine=scheduler.is_cosine)
    last_sigma = sigma[-1] if grid == "unipc" else trained[0]
    return _make_sigma_levels(timestep, sigma, 0.0 if scheduler.final_sigmas_type == "zero" else float(last_sigma))


def _choose_sigmas(scheduler: SchedulerConfig, grid: Grid, sigmas: str | None) -> str:
    if sigmas is None:
        return scheduler.sigmas if grid in _SPREAD else "normal"
    if sigmas not in SIGMAS:
        raise _choice_error("sigmas", sigmas, SIGMAS)
    if sigmas != "normal" and grid not in _SPREAD:
        expected = "none with this solver; euler, heun, unipc and the dpmpp solvers take them"
        raise InputError(f"sigmas is {sigmas!r}", expected, "choose another solver", "sigmas", "sigmas_unsupported")
    return sigmas


def _sigma_range(scheduler: SchedulerConfig, sigma_max: float, sigma_min: float) -> tuple[float, float]:
    high, low = float(scheduler.sigma_max or sigma_max), float(scheduler.sigma_min or sigma_min)
    if low > high:
        raise config_error("sigma_min, sigma_max", f"{low:g}, {high:g}", "a sigma_min that is the smaller of the two")
    return high, low


def _make_sigma_levels(timestep: Floats, sigma: Floats, last: float) -> NoiseLevels:
    """Levels in which each step reaches the level of the next one, and the last step reaches sigma `last`."""
    ends = np.append(sigma, last)
    levels = np.stack([np.ones_like(ends), ends], axis=1) / np.hypot(1, ends)[:, None]
    return NoiseLevels(timestep=timestep.astype(np.float32), here=levels[:-1], there=levels[1:], start_noise=1.0)


def level_of(power: Floats) -> Floats:
    """Convert signal power a^2 [n] to levels (a, s) [n,2]."""
    return np.stack([np.sqrt(power), np.sqrt(1 - power)], axis=-1)


def _choice_error(param: str, value: object, choices: tuple[str, ...]) -> InputError:
    return InputError(
        f"{param} is {value!r}", f"one of {', '.join(choices)}", f"choose another {param}", param, f"{param}_unknown"
    )


def _steps_error(steps: int, expected: str) -> InputError:
    return InputError(f"steps is {steps}", expected, "choose another number of steps", "steps", "steps_out_of_range")
