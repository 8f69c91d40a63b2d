"""Do our matrices walk diffusers' trajectories? Whole trajectories under a nonlinear stand-in for the UNet.

    python benchmarks/solver_parity.py --out benchmarks/results/solver_parity.json

The stand-in reacts to the latent and to the timestep, so an error of one step is not undone by the next. Ours is
computed twice: in float64, and in float32 as the lane does (float32 state and matrices). A trajectory's error is the
largest difference of any latent after any call, relative to the largest latent value after that call.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from alterbute.solver import PREDICTION_TYPES, SIGMAS, SOLVERS, SPACINGS, STATE_ROWS, SolverSteps, solver_steps

LIMIT = 1e-5
SHAPE = (1, 4, 6, 6)
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
SPREAD = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One trajectory: what is changed in CONFIG, and the options of `solver_steps`."""

    solver: str
    steps: int
    change: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        return {**CONFIG, **self.change}

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in {**self.change, **self.options}.items() if key != "trained_betas"]
        return " ".join([self.solver, f"n={self.steps}", *parts])


def fake_model(latent: Any, timestep: float) -> Any:
    """Nonlinear in the latent and the timestep."""
    return 0.7 * torch.tanh(latent) + 0.3 * torch.sin(3 * latent + timestep / 100)


def walk_matrices(plan: SolverSteps, photo: Any, noises: Any, dtype: type) -> Any:
    """The trajectory as the step graph computes it, in `dtype`: latents [n,1,C,h,w] after each call."""
    state, latents = np.zeros((STATE_ROWS, *SHAPE), dtype), []
    state[0] = dtype(plan.start[0]) * photo.astype(dtype) + dtype(plan.start[1]) * noises[0].astype(dtype)
    for k, matrix in enumerate(plan.matrix.astype(dtype)):
        output = fake_model(torch.from_numpy(state[0]), float(plan.timestep[k])).numpy()
        stacked = np.concatenate([state, output[None], noises[k + 1][None].astype(dtype)])
        state = np.tensordot(matrix, stacked, axes=1)
        latents.append(state[0].astype(np.float64))
    return np.array(latents)


def make_reference(case: Case) -> tuple[Any, int]:
    """diffusers' scheduler with its timesteps set as a pipeline of strength < 1 leaves them, and its first call."""
    name, extra = CLASSES[case.solver]
    spread = case.options.get("sigmas")
    extra = {**extra, **({f"use_{spread}_sigmas": True} if spread in SIGMAS[1:] else {})}
    scheduler = getattr(diffusers, name).from_config({**case.config, **extra})
    if case.solver == "heun" and case.config.get("rescale_betas_zero_snr"):
        # This class alone lacks the key; its arithmetic is Euler's.
        scheduler.alphas_cumprod = diffusers.EulerDiscreteScheduler.from_config(case.config).alphas_cumprod
    scheduler.set_timesteps(case.steps)
    first = case.steps - int(case.steps * case.options.get("strength", 1.0))
    call = first * scheduler.order
    if case.solver == "plms" and first:
        # A pipeline slices the list that holds the second timestep twice, so that the anchor step is not repeated
        # where the trajectory starts and a level is skipped. Here the list is made for the steps that are left.
        steps = scheduler._timesteps[::-1][first:].tolist()
        scheduler.timesteps = torch.tensor([steps[0], *steps[1:2], *steps[1:]])
        call = 0
    elif hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(call)
    return scheduler, call


def walk_diffusers(case: Case, photo: Any, noises: Any) -> Any:
    """The same by diffusers' own scheduler class, its latents brought to unit variance."""
    scheduler, first = make_reference(case)
    timesteps = scheduler.timesteps[first:]
    noise = torch.from_numpy(noises[0]).float()
    if case.options.get("strength", 1.0) < 1:
        latent = scheduler.add_noise(torch.from_numpy(photo).float(), noise, timesteps[:1])
    else:
        latent = noise * scheduler.init_noise_sigma
    latents = []
    for k, timestep in enumerate(timesteps):
        output = fake_model(scheduler.scale_model_input(latent, timestep), float(timestep))
        latent = _step(scheduler, output, timestep, latent, torch.from_numpy(noises[k + 1]).float(), case.options)
        sigma = scheduler.sigmas[first + k + 1] if case.solver in SIGMA_SPACE else torch.tensor(0.0)
        latents.append((latent / (1 + sigma**2) ** 0.5).double().numpy())
    return np.array(latents)


def _step(scheduler: Any, output: Any, timestep: Any, latent: Any, noise: Any, options: dict[str, Any]) -> Any:
    """One call of the class's `step`, which draws our noise where it draws."""
    keywords = {"eta": options["eta"]} if "eta" in options else {}
    module = importlib.import_module(type(scheduler).__module__)
    with mock.patch.object(module, "randn_tensor", lambda *_, **__: noise, create=True):
        return scheduler.step(output, timestep, latent, **keywords).prev_sample


def trajectory_errors(case: Case) -> tuple[float, float]:
    """Errors of the float64 and of the float32 trajectory."""
    plan = solver_steps(case.config, case.solver, case.steps, **case.options)
    generator = np.random.default_rng(case.steps)
    # The values that float32 holds, so that both sides start from the same numbers.
    shapes = (SHAPE, (len(plan.timestep) + 1, *SHAPE))
    photo, noises = (generator.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = walk_diffusers(case, photo, noises)
    errors = []
    for dtype in (np.float64, np.float32):
        ours = walk_matrices(plan, photo, noises, dtype)
        if ours.shape != theirs.shape:
            raise ValueError(f"{case}: {len(ours)} calls, diffusers makes {len(theirs)}")
        axes = tuple(range(1, ours.ndim))
        errors.append(float((abs(ours - theirs).max(axes) / abs(theirs).max(axes)).max()))
    return errors[0], errors[1]
