"""Parses a diffusers scheduler config; a key that is neither supported nor without effect is refused.

Any solver can run with the config of any scheduler class. Keys are handled as in diffusers' `from_config`: a key about
sampling (`solver_order`, `use_karras_sigmas`, ...) affects the solvers whose diffusers class has it and is ignored for the
others; a key about training always applies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import BundleError
from alterbute.solver.noise_schedule import (
    Floats,
    accumulate_signal,
    cosine_betas,
    explicit_betas,
    linear_betas,
    scaled_linear_betas,
)

PredictionType: TypeAlias = Literal["epsilon", "v_prediction", "sample"]
Grid: TypeAlias = Literal["ddim", "plms", "lcm", "euler", "euler_a", "heun", "dpm", "unipc"]
"""Rule for a solver's noise levels, one per diffusers class; several solvers may share a grid."""

PREDICTION_TYPES: Final = ("epsilon", "v_prediction", "sample")
SPACINGS: Final = ("leading", "linspace", "trailing")
SIGMAS: Final = ("normal", "karras", "exponential")
MAX_ORDER: Final = 3
MAX_TRAIN_STEPS: Final = 100_000
_MAX_NUMBER: Final = 1e9
_MAX_SIGMA: Final = 1e6
_MAX_SCALING: Final = 1e6
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": PREDICTION_TYPES,
    "timestep_spacing": SPACINGS,
    "final_sigmas_type": ("zero", "sigma_min"),
    # DPM-Solver++ has midpoint and heun, UniPC bh1 and bh2; each takes its default in place of a name of the other.
    "solver_type": ("midpoint", "heun", "bh1", "bh2", "logrho"),
}
_SWITCHES: Final = (
    *("set_alpha_to_one", "rescale_betas_zero_snr", "lower_order_final", "euler_at_final"),
    *("use_karras_sigmas", "use_exponential_sigmas"),
)
_NUMBERS: Final = ("beta_start", "beta_end", "timestep_scaling")
_WHOLE_NUMBERS: Final = ("num_train_timesteps", "steps_offset", "solver_order", "original_inference_steps")
_SIZES: Final = ("sigma_min", "sigma_max")
_LISTS: Final = ("trained_betas", "disable_corrector")
# Keys of unsupported features: only the values that turn the feature off are accepted.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "clip_sample": (False, None),
    "thresholding": (False, None),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
    "shift_terminal": (None,),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "lambda_min_clipped": (-math.inf, None),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}
# Keys of unsupported features that exist on some grids only.
_NEUTRAL_ON: Final[dict[str, tuple[tuple[Grid, ...], tuple[object, ...]]]] = {
    "use_beta_sigmas": (("euler", "heun", "dpm", "unipc"), (False, None)),
    "use_lu_lambdas": (("dpm",), (False, None)),
    "predict_x0": (("unipc",), (True,)),
    "solver_p": (("unipc",), (None,)),
}
# Keys that the solver's name implies, or that only have an effect together with a key of `_NEUTRAL`.
_INERT: Final = (
    *("_class_name", "_diffusers_version", "_use_default_values", "algorithm_type", "clip_sample_range"),
    *("dynamic_thresholding_ratio", "flow_shift", "noise_sampler_seed", "sample_max_value", "skip_prk_steps"),
    "time_shift_type",
)
# Noise schedules (beta_start, beta_end, beta_schedule) of classes whose default differs from the general one.
_NOISE_DEFAULTS: Final[dict[str, tuple[float, float, str]]] = {
    "LCMScheduler": (0.00085, 0.012, "scaled_linear"),
    "HeunDiscreteScheduler": (0.00085, 0.012, "linear"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SchedulerConfig:
    """The values of a scheduler config that affect a solver. The default of a field that is None depends on the solver.

    Args:
        alphas_cumprod: [T] f64, signal power of each training timestep, with the float32 values of diffusers.
        is_cosine: Whether `beta_schedule` is "squaredcos_cap_v2".
        is_zero_snr: Whether the last timestep has no signal (`rescale_betas_zero_snr`).
        sigmas: One of SIGMAS, for solvers that can spread sigmas.
        sigma_min, sigma_max: Smallest and largest of the spread sigmas; None takes the grid's.
        solver_order: UniPC's order, 1..3.
        disable_corrector: Steps after which UniPC does not correct the latent.
        original_steps: Number of steps that an LCM checkpoint was distilled from.
        timestep_scaling: Scale of the timestep in LCM's boundary conditions.
    """

    alphas_cumprod: Floats
    prediction_type: PredictionType
    timestep_spacing: str | None
    steps_offset: int
    set_alpha_to_one: bool | None
    is_cosine: bool
    is_zero_snr: bool
    sigmas: str
    sigma_min: float | None
    sigma_max: float | None
    final_sigmas_type: str
    lower_order_final: bool
    euler_at_final: bool
    solver_type: str | None
    solver_order: int
    disable_corrector: frozenset[int]
    original_steps: int
    timestep_scaling: float

    @property
    def train_steps(self) -> int:
        """T, the number of timesteps that the checkpoint was trained on."""
        return len(self.alphas_cumprod)


def parse_scheduler_config(config: Mapping[str, object], grid: Grid | None = None) -> SchedulerConfig:
    """Parse a diffusers scheduler's config; a missing key takes its default in diffusers.

    The exception is `clip_sample`, which is off when it is missing: latents are not bounded to [-1, 1].

    Args:
        config: The config of any scheduler class.
        grid: The grid of the solver that will use it; None skips the checks of keys that affect some solvers only.

    Raises:
        BundleError: a key is unknown, or its value is not supported; the message names key and value.
    """
    # Keys whose value was the class's default when the config was written; another class may have another default.
    defaulted = config.get("_use_default_values") or ()
    if not isinstance(defaulted, list | tuple):
        raise config_error("_use_default_values", defaulted, "a list of keys")
    config = {key: value for key, value in config.items() if key not in defaulted}
    for key, value in config.items():
        _check_key(key, value, grid)
    prediction_type = cast(PredictionType, config.get("prediction_type", "epsilon"))
    is_zero_snr = bool(config.get("rescale_betas_zero_snr", False))
    if is_zero_snr and prediction_type == "epsilon":
        expected = "false for a checkpoint that predicts epsilon: without signal it is undefined"
        raise config_error("rescale_betas_zero_snr", True, expected)
    scheduler = SchedulerConfig(
        alphas_cumprod=_read_signal(config, is_zero_snr),
        prediction_type=prediction_type,
        timestep_spacing=cast("str | None", config.get("timestep_spacing")),
        steps_offset=cast(int, config.get("steps_offset", 0)),
        set_alpha_to_one=cast("bool | None", config.get("set_alpha_to_one")),
        is_cosine=config.get("beta_schedule") == "squaredcos_cap_v2",
        is_zero_snr=is_zero_snr,
        sigmas=_read_sigmas(config),
        sigma_min=cast("float | None", config.get("sigma_min")),
        sigma_max=cast("float | None", config.get("sigma_max")),
        final_sigmas_type=cast(str, config.get("final_sigmas_type", "zero")),
        lower_order_final=bool(config.get("lower_order_final", True)),
        euler_at_final=bool(config.get("euler_at_final", False)),
        solver_type=cast("str | None", config.get("solver_type")),
        solver_order=cast(int, config.get("solver_order", 2)),
        disable_corrector=frozenset(cast("Sequence[int]", config.get("disable_corrector", ()))),
        original_steps=cast(int, config.get("original_inference_steps", 50)),
        timestep_scaling=_read_number(config, "timestep_scaling", 10.0),
    )
    _check_solver_keys(scheduler, grid)
    return scheduler


def _check_key(key: str, value: object, grid: Grid | None) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_NUMBER
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise config_error(key, value, f"one of {', '.join(_CHOICES[key])}")
    elif key in _NEUTRAL:
        if value not in _NEUTRAL[key]:
            raise config_error(key, value, f"{_NEUTRAL[key][0]!r}")
    elif key in _NEUTRAL_ON:
        grids, values = _NEUTRAL_ON[key]
        if grid in grids and value not in values:
            raise config_error(key, value, f"{values[0]!r} for this solver")
    elif key in _SWITCHES:
        if not isinstance(value, bool) and value is not None:
            raise config_error(key, value, "true or false")
    elif key in _NUMBERS:
        if not is_number:
            raise config_error(key, value, f"a number of at most {_MAX_NUMBER:g}")
    elif key in _WHOLE_NUMBERS:
        if not is_number or not isinstance(value, int) or value < 0:
            raise config_error(key, value, f"a whole number from 0 to {_MAX_NUMBER:g}")
    elif key in _SIZES:
        if value is not None and not (is_number and 1 / _MAX_SIGMA <= cast(float, value) <= _MAX_SIGMA):
            raise config_error(key, value, f"{1 / _MAX_SIGMA:g} to {_MAX_SIGMA:g}, or null")
    elif key == "disable_corrector":
        if not isinstance(value, Sequence) or not all(type(step) is int for step in value):
            raise config_error(key, value, "a list of steps")
    elif key not in _LISTS and key not in _INERT:
        supported = sorted(
            {*_CHOICES, *_NEUTRAL, *_NEUTRAL_ON, *_SWITCHES, *_NUMBERS, *_WHOLE_NUMBERS, *_SIZES, *_LISTS}
        )
        raise config_error(key, value, f"only known keys ({', '.join(supported)})")


def _check_solver_keys(scheduler: SchedulerConfig, grid: Grid | None) -> None:
    if grid == "unipc" and not 1 <= scheduler.solver_order <= MAX_ORDER:
        raise config_error("solver_order", scheduler.solver_order, f"1 to {MAX_ORDER} for unipc")
    if grid == "lcm" and not 1 <= scheduler.original_steps <= scheduler.train_steps:
        seen = scheduler.original_steps
        raise config_error("original_inference_steps", seen, f"1 to num_train_timesteps, {scheduler.train_steps}")
    if grid == "lcm" and not 0 < scheduler.timestep_scaling <= _MAX_SCALING:
        raise config_error("timestep_scaling", scheduler.timestep_scaling, f"above 0, at most {_MAX_SCALING:g}")


def _read_sigmas(config: Mapping[str, object]) -> str:
    if config.get("use_karras_sigmas") and config.get("use_exponential_sigmas"):
        raise config_error("use_karras_sigmas, use_exponential_sigmas", True, "one of them at most")
    if config.get("use_karras_sigmas"):
        return "karras"
    return "exponential" if config.get("use_exponential_sigmas") else "normal"


def _read_signal(config: Mapping[str, object], is_zero_snr: bool) -> Floats:
    """Signal power [T] f64, falling. Values that are equal in float32 are refused, as sigmas are interpolated between them."""
    signal = accumulate_signal(_read_betas(config), to_zero_snr=is_zero_snr)
    if signal[0] == 1 or (signal[-1] == 0 and not is_zero_snr) or not np.all(np.diff(signal) < 0):
        keys = "beta_schedule, num_train_timesteps, beta_start, beta_end, trained_betas"
        seen = f"a signal of {signal[0]:.9g} to {signal[-1]:.3g}"
        raise config_error(keys, seen, "betas that reduce the signal at every timestep, and leave some at the last")
    return signal


def _read_betas(config: Mapping[str, object]) -> NDArray[np.float32]:
    trained = config.get("trained_betas")
    if trained is not None:
        if not isinstance(trained, Sequence) or not all(isinstance(beta, float) and 0 < beta < 1 for beta in trained):
            raise config_error("trained_betas", "something else", "a list of numbers between 0 and 1")
        if len(trained) < 2 or config.get("num_train_timesteps", len(trained)) != len(trained):
            raise config_error("trained_betas", f"a list of {len(trained)}", "num_train_timesteps of them, 2 or more")
        return explicit_betas(trained)
    default_start, default_end, default_kind = _NOISE_DEFAULTS.get(
        str(config.get("_class_name")), (0.0001, 0.02, "linear")
    )
    count = cast(int, config.get("num_train_timesteps", 1000))
    start, end = _read_number(config, "beta_start", default_start), _read_number(config, "beta_end", default_end)
    if not 2 <= count <= MAX_TRAIN_STEPS or not 0 < start <= end < 1:
        seen = f"{count} timesteps, beta {start} to {end}"
        expected = f"2 to {MAX_TRAIN_STEPS} timesteps, 0 < start <= end < 1"
        raise config_error("num_train_timesteps, beta_start, beta_end", seen, expected)
    kind = config.get("beta_schedule", default_kind)
    if kind == "squaredcos_cap_v2":
        return cosine_betas(count)
    return scaled_linear_betas(start, end, count) if kind == "scaled_linear" else linear_betas(start, end, count)


def _read_number(config: Mapping[str, object], key: str, default: float) -> float:
    return float(cast(float, config.get(key, default)))


def config_error(key: str, value: object, expected: str) -> BundleError:
    """Make the error of an unsupported key or value of the scheduler config.

    Args:
        key: The key.
        value: The value of the key.
        expected: The supported values, in words.
    """
    return BundleError(
        f"the scheduler config has {key} = {value!r}",
        expected,
        "change it in the checkpoint's scheduler_config.json if the model allows, and export the bundle again",
    )
