"""A checkpoint's noise schedule, read from a diffusers scheduler config without dropping a key unread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import BundleError

Floats: TypeAlias = NDArray[np.float64]
PredictionType: TypeAlias = Literal["epsilon", "v_prediction", "sample"]

PREDICTION_TYPES: Final = ("epsilon", "v_prediction", "sample")
SPACINGS: Final = ("leading", "linspace", "trailing")
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": PREDICTION_TYPES,
    "timestep_spacing": SPACINGS,
    "final_sigmas_type": ("zero", "sigma_min"),
    # bh1, bh2 and logrho belong to other solvers; diffusers reads them as midpoint here, and so do we.
    "solver_type": ("midpoint", "heun", "bh1", "bh2", "logrho"),
}
_SWITCHES: Final = ("set_alpha_to_one", "rescale_betas_zero_snr", "lower_order_final", "euler_at_final")
_NUMBERS: Final = ("num_train_timesteps", "beta_start", "beta_end", "steps_offset")
# Keys that change the arithmetic: only the value that changes nothing is supported.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "clip_sample": (False, None),
    "thresholding": (False, None),
    "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "lambda_min_clipped": (-math.inf, None),
    "sigma_min": (None,),
    "sigma_max": (None,),
}
# Keys that a solver's name decides, or that only speak beside a key of `_NEUTRAL`.
_INERT: Final = (
    *("_class_name", "_diffusers_version", "_use_default_values", "algorithm_type", "clip_sample_range"),
    *("disable_corrector", "dynamic_thresholding_ratio", "flow_shift", "original_inference_steps", "predict_x0"),
    *("sample_max_value", "skip_prk_steps", "solver_order", "solver_p", "time_shift_type", "timestep_scaling"),
    "variance_type",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scheduler:
    """The part of a scheduler config that a solver needs. A field that is None was not in the config.

    Args:
        alphas_cumprod: [T] f64, signal power of each training timestep, with the float32 values of diffusers.
        is_zero_snr: The last timestep holds no signal at all (`rescale_betas_zero_snr`).
    """

    alphas_cumprod: Floats
    prediction_type: PredictionType
    timestep_spacing: str | None
    steps_offset: int
    set_alpha_to_one: bool
    is_zero_snr: bool
    final_sigmas_type: str
    lower_order_final: bool
    euler_at_final: bool
    is_heun: bool

    @property
    def train_steps(self) -> int:
        """T, the timesteps that the checkpoint was trained on."""
        return len(self.alphas_cumprod)


def read_scheduler(config: Mapping[str, object]) -> Scheduler:
    """A diffusers scheduler's own dictionary as a Scheduler; a missing key has its diffusers default.

    `clip_sample` alone is taken as off when it is missing: latents are not bounded to [-1, 1].

    Raises:
        BundleError: an unknown key, or a value that is not supported; both are named.
    """
    for key, value in config.items():
        _check_key(key, value)
    prediction_type = cast(PredictionType, config.get("prediction_type", "epsilon"))
    is_zero_snr = bool(config.get("rescale_betas_zero_snr", False))
    if is_zero_snr and prediction_type == "epsilon":
        raise _config_error(
            "rescale_betas_zero_snr", True, "false for a checkpoint that predicts epsilon: without signal it is undefined"
        )
    return Scheduler(
        alphas_cumprod=_alphas_cumprod(config, is_zero_snr),
        prediction_type=prediction_type,
        timestep_spacing=cast("str | None", config.get("timestep_spacing")),
        steps_offset=int(_number(config, "steps_offset", 0)),
        set_alpha_to_one=bool(config.get("set_alpha_to_one", True)),
        is_zero_snr=is_zero_snr,
        final_sigmas_type=cast(str, config.get("final_sigmas_type", "zero")),
        lower_order_final=bool(config.get("lower_order_final", True)),
        euler_at_final=bool(config.get("euler_at_final", False)),
        is_heun=config.get("solver_type") == "heun",
    )


def _check_key(key: str, value: object) -> None:
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise _config_error(key, value, f"one of {', '.join(_CHOICES[key])}")
    elif key in _NEUTRAL:
        if value not in _NEUTRAL[key]:
            raise _config_error(key, value, f"{_NEUTRAL[key][0]!r}")
    elif key in _SWITCHES:
        if not isinstance(value, bool):
            raise _config_error(key, value, "true or false")
    elif key in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _config_error(key, value, "a number")
    elif key != "trained_betas" and key not in _INERT:
        known = sorted({*_CHOICES, *_NEUTRAL, *_SWITCHES, *_NUMBERS, "trained_betas"})
        raise _config_error(key, value, f"only known keys ({', '.join(known)})")


def _alphas_cumprod(config: Mapping[str, object], is_zero_snr: bool) -> Floats:
    """[T] f64 holding the very float32 values that torch computes, so that small sigmas agree with diffusers."""
    betas = _betas(config)
    alphas = np.float32(1) - betas
    if is_zero_snr:
        alphas = _without_terminal_signal(alphas)
    # torch.cumprod accumulates float32 in double and rounds each element; so does this.
    return np.cumprod(alphas.astype(np.float64)).astype(np.float32).astype(np.float64)


def _betas(config: Mapping[str, object]) -> NDArray[np.float32]:
    trained = config.get("trained_betas")
    if trained is not None:
        if not isinstance(trained, Sequence) or not all(isinstance(beta, float) and 0 < beta < 1 for beta in trained):
            raise _config_error("trained_betas", "something else", "a list of numbers between 0 and 1")
        return np.array(trained, np.float32)
    count = int(_number(config, "num_train_timesteps", 1000))
    start, end = _number(config, "beta_start", 0.0001), _number(config, "beta_end", 0.02)
    if count < 2 or not 0 < start <= end < 1:
        seen = f"{count} timesteps, beta {start} to {end}"
        raise _config_error("num_train_timesteps, beta_start, beta_end", seen, ">= 2 timesteps, 0 < start <= end < 1")
    schedule = config.get("beta_schedule", "linear")
    if schedule == "linear":
        return _torch_linspace(start, end, count)
    if schedule == "scaled_linear":
        return _torch_linspace(start**0.5, end**0.5, count) ** 2
    bars = [math.cos((k / count + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(count + 1)]
    return np.array([min(1 - after / now, 0.999) for now, after in pairwise(bars)], np.float32)


def _torch_linspace(start: float, end: float, count: int) -> NDArray[np.float32]:
    """`torch.linspace` in float32, to the bit: from both ends, with one rounding (a fused multiply-add)."""
    low, high = np.float32(start), np.float32(end)
    step = float(np.float32((high - low) / np.float32(count - 1)))
    index = np.arange(count)
    points = np.where(index < count // 2, float(low) + step * index, float(high) - step * (count - 1 - index))
    return points.astype(np.float32)


def _without_terminal_signal(alphas: NDArray[np.float32]) -> NDArray[np.float32]:
    """Algorithm 1 of arXiv:2305.08891 in float32: shift and scale so that the last timestep has no signal."""
    roots = np.sqrt(np.cumprod(alphas.astype(np.float64)).astype(np.float32))
    first, last = roots[0], roots[-1]
    bars = ((roots - last) * (first / (first - last))) ** 2
    ratios: NDArray[np.float32] = np.concatenate([bars[:1], bars[1:] / bars[:-1]])
    # diffusers stores betas, 1 - alpha, and takes them back: two roundings that must be repeated.
    return np.float32(1) - (np.float32(1) - ratios)


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    return float(cast(float, config.get(key, default)))


def _config_error(key: str, value: object, expected: str) -> BundleError:
    return BundleError(
        f"the scheduler config has {key} = {value!r}",
        expected,
        "change it in the checkpoint's scheduler_config.json if the model allows, and export the bundle again",
    )
