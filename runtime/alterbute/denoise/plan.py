"""The plan: an edit compiled to data before it starts, with the step graph's inputs of every step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alterbute.bundle import Manifest
from alterbute.denoise.guidance import Row, list_step_rows, make_guidance_rows
from alterbute.errors import BundleError
from alterbute.request import EditRequest
from alterbute.solver import STATE_ROWS, compile_trajectory

_CACHED_PLANS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The plan of one image for n steps, one per UNet call of the solver.

    Args:
        timestep: [n] f32, the UNet's timestep.
        matrix: [n,K,K+2] f32, the solver's matrices.
        level: [n,2] f32, signal and noise scale of the level that each step reaches.
        start: Signal and noise scale of the first latent.
        rows: The UNet rows of each step.
        is_noisy: [n] bool, the steps that draw fresh noise.
        identity_scale: Weight of the identity.
        guidance_rescale: How far the guided output is rescaled to the prompt row's standard deviation, 0..1; 0 is off.
        reinject: Whether the photo's latent is restored outside the mask after every step.
        seed: Key of the noise.
        image: Index of the image within its request, part of the noise's counter.
    """

    timestep: NDArray[np.float32]
    matrix: NDArray[np.float32]
    level: NDArray[np.float32]
    start: tuple[float, float]
    rows: tuple[tuple[Row, ...], ...]
    is_noisy: NDArray[np.bool_]
    identity_scale: float
    guidance_rescale: float
    reinject: bool
    seed: int
    image: int

    @property
    def steps(self) -> int:
        """Number of launches of this image, one per UNet call."""
        return len(self.timestep)


def make_plan(request: EditRequest, manifest: Manifest, *, seed: int, image: int) -> Plan:
    """Compile one image of a request.

    Args:
        request: The request; fields that are None take the bundle's defaults.
        manifest: The bundle's manifest.
        seed: The seed, 0..2^63-1: the request's, or the one that was drawn for it.
        image: Index of the image, 0..count-1.

    Raises:
        InputError: the solver is unknown, or this bundle does not support the number of steps or the guidance.
        BundleError: the bundle's scheduler config or number of state rows is not supported.
    """
    if manifest.state_rows != STATE_ROWS:
        raise BundleError(
            f"the bundle's step graph has {manifest.state_rows} state rows",
            f"{STATE_ROWS}",
            "export the bundle again with this version",
        )
    defaults, guidance = manifest.defaults, manifest.guidance
    trajectory = compile_trajectory(
        manifest.scheduler,
        request.solver or defaults.solver,
        request.steps or defaults.steps,
        strength=_value_or_default(request.strength, defaults.strength),
        eta=float(request.eta),
        spacing=defaults.spacing,
        sigmas=request.sigmas,
    )
    rows = make_guidance_rows(
        _value_or_default(request.guidance, guidance.scale),
        _value_or_default(request.identity_guidance, guidance.identity),
        guidance.forms,
    )
    start, stop = request.guidance_interval or guidance.interval
    return Plan(
        timestep=trajectory.timestep,
        matrix=trajectory.matrix.astype(np.float32),
        level=trajectory.level.astype(np.float32),
        start=(float(trajectory.start[0]), float(trajectory.start[1])),
        rows=list_step_rows(rows, len(trajectory.timestep), (float(start), float(stop))),
        is_noisy=trajectory.is_noisy,
        identity_scale=float(request.identity_scale),
        guidance_rescale=_value_or_default(request.guidance_rescale, guidance.rescale),
        reinject=manifest.reinject if request.reinject is None else bool(request.reinject),
        seed=seed,
        image=image,
    )


class PlanCache:
    """A bundle's plans, each compiled once, because most requests differ in prompt and seed only.

    Args:
        manifest: The bundle's manifest.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._cached_plan = lru_cache(_CACHED_PLANS)(self._compile_plan)

    def get_plan(self, request: EditRequest, *, seed: int, image: int) -> Plan:
        """Return the plan of one image of a request; plans share their arrays, which are read-only.

        Args:
            request: The request; fields that are None take the bundle's defaults.
            seed: The seed, 0..2^63-1: the request's, or the one that was drawn for it.
            image: Index of the image, 0..count-1.

        Raises:
            InputError, BundleError: `make_plan` refuses the request.
        """
        interval = request.guidance_interval and (request.guidance_interval[0], request.guidance_interval[1])
        key = replace(request, prompt="", negative_prompt="", seed=None, count=1, guidance_interval=interval)
        return replace(self._cached_plan(key), seed=seed, image=image)

    def _compile_plan(self, request: EditRequest) -> Plan:
        plan = make_plan(request, self._manifest, seed=0, image=0)
        for array in (plan.timestep, plan.matrix, plan.level, plan.is_noisy):
            array.setflags(write=False)
        return plan


def _value_or_default(value: float | None, default: float) -> float:
    return default if value is None else float(value)
