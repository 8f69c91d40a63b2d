"""Trajectories of a solver, by our matrices and by diffusers' scheduler class."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from alterbute.solver import SIGMAS, STATE_ROWS, Trajectory, compile_trajectory

SHAPE = (1, 4, 6, 6)
"""Shape of the latent [1,C,h,w]."""
CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpmpp_3m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 3}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
}
SIGMA_SPACE = ("euler", "euler_a", "heun")
"""Solvers whose latents in diffusers have the variance 1 + sigma^2; ours have unit variance."""


@dataclass(frozen=True, kw_only=True)
class SolverCase:
    """One trajectory: solver, steps, changes to CONFIG, and options of `compile_trajectory`."""

    solver: str
    steps: int
    change: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """CONFIG with this case's changes."""
        return {**CONFIG, **self.change}

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in {**self.change, **self.options}.items() if key != "trained_betas"]
        return " ".join([self.solver, f"n={self.steps}", *parts])


def fake_model(latent: Any, timestep: float) -> Any:
    """Stand-in for the UNet, nonlinear in latent and timestep, so that no step cancels the error of another.

    Its slope is at most 1, like a denoiser's; a steeper one would amplify rounding errors of both sides.
    """
    return 0.6 * torch.tanh(latent) + 0.2 * torch.sin(2 * latent + timestep / 100)


def walk_matrices(plan: Trajectory, photo: Any, noises: Any, dtype: type) -> Any:
    """Latents [n,1,C,h,w] after each call, computed as in the step graph.

    Args:
        plan: The trajectory.
        photo: Clean latent of shape SHAPE.
        noises: [n+1,*SHAPE], initial noise, then the noise of each call.
        dtype: numpy float type of the arithmetic.
    """
    state: Any = np.zeros((STATE_ROWS, *SHAPE), dtype)
    latents: list[Any] = []
    state[0] = dtype(plan.start[0]) * photo.astype(dtype) + dtype(plan.start[1]) * noises[0].astype(dtype)
    for k, matrix in enumerate(plan.matrix.astype(dtype)):
        output = fake_model(torch.from_numpy(state[0]), float(plan.timestep[k])).numpy()
        stacked = np.concatenate([state, output[None], noises[k + 1][None].astype(dtype)])
        state = np.tensordot(matrix, stacked, axes=1)
        latents.append(state[0].astype(np.float64))
    return np.array(latents)


def make_reference(case: SolverCase) -> tuple[Any, int]:
    """diffusers' scheduler with timesteps set as by a pipeline of the case's strength, and the index of its first call."""
    name, extra = CLASSES[case.solver]
    spacing = case.options.get("sigmas")
    extra = {**extra, **({f"use_{spacing}_sigmas": True} if spacing in SIGMAS[1:] else {})}
    scheduler = getattr(diffusers, name).from_config({**case.config, **extra})
    if case.solver == "heun" and case.config.get("rescale_betas_zero_snr"):
        # HeunDiscreteScheduler lacks this key; its noise levels are Euler's.
        scheduler.alphas_cumprod = diffusers.EulerDiscreteScheduler.from_config(case.config).alphas_cumprod
    scheduler.set_timesteps(case.steps)
    first = case.steps - int(case.steps * case.options.get("strength", 1.0))
    call = first * scheduler.order
    if case.solver == "plms" and first:
        # A pipeline slices the list, which has the second timestep twice: the slice does not repeat its own second
        # timestep, and a level is skipped. Here the list is made for the remaining steps.
        steps = scheduler._timesteps[::-1][first:].tolist()
        scheduler.timesteps = torch.tensor([steps[0], *steps[1:2], *steps[1:]])
        call = 0
    elif hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(call)
    return scheduler, call


class Float64Torch:
    """Replacement of `torch` in a scheduler's module, in which casts to float32 are casts to float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def walk_diffusers(case: SolverCase, photo: Any, noises: Any, dtype: torch.dtype, calls: int) -> Any:
    """Latents [calls,1,C,h,w] after each call of diffusers' scheduler, scaled to unit variance.

    In float64 the same code runs on the same float32 noise levels, without the rounding of float32 arithmetic.

    Args:
        case: Scheduler config and options.
        photo: Clean latent of shape SHAPE.
        noises: [n+1,*SHAPE], initial noise, then the noise of each call.
        dtype: torch float type of the arithmetic.
        calls: Number of calls, at most n.
    """
    scheduler, first = make_reference(case)
    for name in ("sigmas", "alphas_cumprod", "final_alpha_cumprod"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).to(dtype))
    photo, noises = torch.from_numpy(photo).to(dtype), torch.from_numpy(noises).to(dtype)
    timesteps = scheduler.timesteps[first:]
    if len(timesteps) != len(noises) - 1:
        raise ValueError(f"{case}: diffusers makes {len(timesteps)} calls; expected {len(noises) - 1}")
    module = importlib.import_module(type(scheduler).__module__)
    latents: list[Any] = []
    draws = iter(noises[1:])
    noise: Any = None
    with (
        mock.patch.object(module, "torch", Float64Torch() if dtype == torch.float64 else torch),
        mock.patch.object(module, "randn_tensor", lambda *_, **__: noise, create=True),
    ):
        if case.options.get("strength", 1.0) < 1:
            latent = scheduler.add_noise(photo, noises[0], timesteps[:1])
        else:
            latent = noises[0] * scheduler.init_noise_sigma
        keywords = {"eta": case.options["eta"]} if "eta" in case.options else {}
        for k, timestep in enumerate(timesteps[:calls]):
            noise = next(draws)
            output = fake_model(scheduler.scale_model_input(latent, timestep), float(timestep))
            latent = scheduler.step(output, timestep, latent, **keywords).prev_sample
            sigma = scheduler.sigmas[first + k + 1] if case.solver in SIGMA_SPACE else torch.tensor(0.0)
            latents.append((latent / (1 + sigma**2) ** 0.5).double().numpy())
    return np.array(latents)


def relative_error(ours: Any, theirs: Any) -> float:
    """Largest difference over all calls, relative to the largest value of the reference after that call."""
    axes = tuple(range(1, ours.ndim))
    return float((abs(ours - theirs).max(axes) / abs(theirs).max(axes)).max())


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Relative errors of a trajectory: ours in float32 against unchanged diffusers, and both in float64."""

    float32: float
    float64: float


def trajectory_errors(case: SolverCase, *, leaves_out_last: bool = False) -> Errors:
    """Errors of a case's trajectory against diffusers, in float32 and in float64.

    Args:
        case: The configuration.
        leaves_out_last: Whether to leave out the last call, whose latent is NaN in diffusers.
    """
    plan = compile_trajectory(case.config, case.solver, case.steps, **case.options)
    generator = np.random.default_rng(case.steps)
    # Rounded to float32, so that all four computations start from the same numbers.
    shapes = (SHAPE, (len(plan.timestep) + 1, *SHAPE))
    photo, noises = (generator.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in shapes)
    calls = len(plan.timestep) - leaves_out_last
    errors = {}
    for name in ("float32", "float64"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = walk_diffusers(case, photo, noises, getattr(torch, name), calls)
        ours = walk_matrices(plan, photo, noises, getattr(np, name))
        if not np.isfinite(ours).all():
            raise ValueError(f"{case}: our latents are not finite")
        errors[name] = relative_error(ours[:calls], theirs)
    return Errors(**errors)
