"""Configurations that are compared with diffusers; exceptions that have another limit, and their causes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from alterbute.solver import PREDICTION_TYPES, SIGMAS, SOLVERS, SPACINGS
from alterbute.solver.noise_levels import make_noise_levels
from alterbute.solver.scheduler_config import parse_scheduler_config

from benchmarks.solvers.solver_walks import SIGMA_SPACE, Errors, SolverCase

LIMIT = 1e-5
"""Limit of both errors of a trajectory."""
SPACED_SOLVERS = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc")
"""Solvers whose noise levels may be spaced by the option `sigmas`: karras, exponential or beta."""


@dataclass(frozen=True, kw_only=True)
class ParityException:
    """Configurations for which diffusers' float32 result is no reference.

    Args:
        cause: Why it is none.
        applies: Whether a configuration falls under the exception.
        leaves_out_last: Whether the latent after the last call is not compared.
        limit: Limit of the float64 error; the float32 error then has none. None keeps LIMIT for both.
    """

    cause: str
    applies: Callable[[SolverCase], bool]
    leaves_out_last: bool = False
    limit: float | None = None


def _is_last_latent_nan(case: SolverCase) -> bool:
    """Whether the last latent of diffusers' UniPC is NaN."""
    config = case.config
    is_low = config.get("lower_order_final", True) or config.get("solver_order", 2) == 1
    is_bh1 = config.get("solver_type") == "bh1"
    return case.solver == "unipc" and config.get("final_sigmas_type", "zero") == "zero" and (is_bh1 or not is_low)


def _rounding_gain(case: SolverCase) -> float:
    """Largest factor dt / 2 sigma' by which Heun's second call multiplies the rounding error of the first."""
    scheduler = parse_scheduler_config(case.config, "heun")
    levels = make_noise_levels(scheduler, "heun", case.steps, None, case.options.get("sigmas"))
    sigma = levels.here[:, 1] / levels.here[:, 0]
    return float(max((sigma[:-1] - sigma[1:]) / (2 * sigma[1:]), default=0.0))


def _are_last_sigmas_equal(case: SolverCase) -> bool:
    """Whether the last two sigmas of diffusers' DPM-Solver++ 3M are equal."""
    config = case.config
    is_spread = case.options.get("sigmas") in SIGMAS[1:] and config.get("final_sigmas_type") == "sigma_min"
    # A configured sigma_min differs from the final sigma, which is the smallest training sigma.
    return case.solver == "dpmpp_3m" and is_spread and "sigma_min" not in config and case.steps >= 15


# Names and causes are copied to results/solver_parity.json.
EXCEPTIONS: dict[str, ParityException] = {
    "unipc, final sigma zero, bh1 or no lower_order_final": ParityException(
        cause="diffusers' last latent is NaN: B(h) is infinite, or a ratio is 0; ours is the clean estimate",
        applies=_is_last_latent_nan,
        leaves_out_last=True,
    ),
    "dpmpp_3m, karras or exponential, final sigma_min": ParityException(
        cause="diffusers' last latent is NaN: the last sigma is spread onto the final one, 0 / 0; ours stays where it is",
        applies=_are_last_sigmas_equal,
        leaves_out_last=True,
    ),
    "euler, euler_a and heun, zero terminal SNR": ParityException(
        cause="diffusers holds latents of size 4096 in float32 while sigma is 4096; ours are of unit variance",
        applies=lambda case: case.solver in SIGMA_SPACE and bool(case.config.get("rescale_betas_zero_snr")),
        limit=1e-4,
    ),
    "heun, wide steps": ParityException(
        cause="a step of dt in sigma onto sigma' multiplies diffusers' float32 rounding by dt / 2 sigma', here 20 and more",
        applies=lambda case: case.solver == "heun" and _rounding_gain(case) > 20,
        limit=LIMIT,
    ),
    "euler_a, squaredcos_cap_v2": ParityException(
        cause="diffusers' float32 sigma_down is the root of a negative number on wide steps: NaN",
        applies=lambda case: case.solver == "euler_a" and case.config["beta_schedule"] == "squaredcos_cap_v2",
        limit=LIMIT,
    ),
    "more than 500 steps": ParityException(
        cause="the float32 rounding of about a thousand calls adds up on both sides, and diffusers' sigmas are float32",
        applies=lambda case: case.steps > 500,
        limit=5e-5,
    ),
}
# Configurations without a reference in diffusers, and why; they are not compared.
NO_REFERENCE = {
    "euler_a and plms, prediction_type sample": "diffusers' classes raise",
    "plms, zero terminal SNR": "PNDMScheduler lacks the key, and its formula divides by the signal, 0",
}

# Configurations whose reference is changed, and how.
ADAPTED = {
    "plms, strength below 1": "a pipeline slices PNDMScheduler's list, in which the second timestep stands twice: the anchor step "
    "is then not repeated and a level is skipped; the reference gets the list of the steps that are left",
    "heun, zero terminal SNR": "HeunDiscreteScheduler lacks the key; the reference gets EulerDiscreteScheduler's signal",
}


def name_exception(case: SolverCase) -> str | None:
    """Name of the first of EXCEPTIONS that applies to a case; None if there is none."""
    return next((name for name, exception in EXCEPTIONS.items() if exception.applies(case)), None)


def is_within_limit(case: SolverCase, errors: Errors) -> bool:
    """Whether the errors of a case are within LIMIT, or within the limit of its exception."""
    limit = EXCEPTIONS[name].limit if (name := name_exception(case)) else None
    return errors.float64 <= limit if limit else max(errors.float32, errors.float64) <= LIMIT


def sweep() -> Iterator[SolverCase]:
    """Every configuration that has a reference in diffusers, each once."""
    names = set()
    for case in _all_cases():
        is_sample = case.config.get("prediction_type") == "sample"
        has_reference = not (
            (case.solver in ("euler_a", "plms") and is_sample)
            or (case.solver == "plms" and case.config.get("rescale_betas_zero_snr"))
        )
        if has_reference and str(case) not in names:
            names.add(str(case))
            yield case


def _all_cases() -> Iterator[SolverCase]:
    change: dict[str, Any]
    extra: dict[str, Any]
    solvers: Sequence[str]
    for solver, prediction, spacing in product(SOLVERS, PREDICTION_TYPES, SPACINGS):
        # LCM has its own timestep spacing.
        if solver != "lcm" or spacing == SPACINGS[0]:
            yield from _cases(
                [solver], (1, 2, 3, 5, 10, 15, 20, 50), prediction_type=prediction, timestep_spacing=spacing
            )
    for prediction, spacing, kind in product(PREDICTION_TYPES, ("leading", "trailing"), SIGMAS[1:]):
        solvers = SPACED_SOLVERS if spacing == "trailing" else ("euler", "heun")
        change = {"prediction_type": prediction, "timestep_spacing": spacing}
        yield from _cases(solvers, (1, 2, 5, 10, 20, 50), options={"sigmas": kind}, **change)
    for kind, extra in product(
        SIGMAS[1:],
        (
            {"final_sigmas_type": "sigma_min"},
            {"sigma_min": 0.1, "sigma_max": 10.0, "final_sigmas_type": "sigma_min"},
            {"beta_schedule": "squaredcos_cap_v2"},
            {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        ),
    ):
        yield from _cases(SPACED_SOLVERS, (5, 20), options={"sigmas": kind}, **extra)
    for lowers, euler, form in product((True, False), (True, False), ("midpoint", "heun")):
        change = {"lower_order_final": lowers, "euler_at_final": euler, "solver_type": form}
        for final in ("zero", "sigma_min"):
            yield from _cases(("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m"), (4, 10, 20), final_sigmas_type=final, **change)
    for order, form, lowers, final in product((1, 2, 3), ("bh1", "bh2"), (True, False), ("zero", "sigma_min")):
        change = {"solver_order": order, "solver_type": form, "lower_order_final": lowers, "final_sigmas_type": final}
        for prediction in PREDICTION_TYPES:
            yield from _cases(["unipc"], (2, 4, 20), prediction_type=prediction, **change)
    yield from _cases(["unipc"], (5, 20), disable_corrector=[0, 2], solver_order=3)
    for eta, prediction, spacing in product((0.3, 1.0), PREDICTION_TYPES, SPACINGS):
        yield from _cases(
            ["ddim"], (5, 20, 50), options={"eta": eta}, prediction_type=prediction, timestep_spacing=spacing
        )
    for strength, spacing in product((0.2, 0.5, 0.8, 0.95), ("leading", "trailing")):
        yield from _cases(list(SOLVERS), (5, 20), options={"strength": strength}, timestep_spacing=spacing)
    for strength, kind in product((0.3, 0.7), SIGMAS[1:]):
        yield from _cases(SPACED_SOLVERS, (10, 20), options={"strength": strength, "sigmas": kind})
    for prediction, spacing in product(("v_prediction", "sample"), ("trailing", "linspace")):
        change = {"rescale_betas_zero_snr": True, "prediction_type": prediction, "timestep_spacing": spacing}
        yield from _cases(list(SOLVERS), (4, 10, 20, 50), **change)
    for change in (
        {"beta_schedule": "linear", "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_end": 0.03, "prediction_type": "v_prediction", "steps_offset": 0},
        {"set_alpha_to_one": False},
        {"set_alpha_to_one": True},
        {"num_train_timesteps": 500},
        {"trained_betas": [0.001 * (k + 1) ** 0.5 for k in range(100)], "num_train_timesteps": 100},
    ):
        yield from _cases(list(SOLVERS), (4, 20), **change)
    for original, scaling in ((25, 10.0), (50, 2.0), (100, 10.0)):
        yield from _cases(["lcm"], (1, 4, 25), original_inference_steps=original, timestep_scaling=scaling)
    for spacing, prediction in product(SPACINGS, ("epsilon", "v_prediction")):
        change = {"timestep_spacing": spacing, "prediction_type": prediction, "steps_offset": 0}
        yield from _cases([solver for solver in SOLVERS if solver != "lcm"], (100, 333), **change)
    for prediction in PREDICTION_TYPES:
        solvers = [solver for solver in SOLVERS if solver != "lcm"]
        yield from _cases(solvers, (999,), timestep_spacing="trailing", prediction_type=prediction)


def _cases(
    solvers: Sequence[str], counts: Sequence[int], *, options: dict[str, Any] | None = None, **change: Any
) -> Iterator[SolverCase]:
    for solver, steps in product(solvers, counts):
        yield SolverCase(solver=solver, steps=steps, change=change, options=options or {})
