"""Solver matrices: finite, of the documented shapes, ending on the clean latent; invalid configs and arguments are refused."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from alterbute.errors import BundleError, InputError
from alterbute.solver import (
    NOISE,
    OUTPUT,
    PREDICTION_TYPES,
    SIGMAS,
    SOLVERS,
    SPACINGS,
    STATE_ROWS,
    Trajectory,
    compile_trajectory,
)
from alterbute.solver.noise_levels import make_noise_levels
from alterbute.solver.scheduler_config import parse_scheduler_config
from hypothesis import assume, given, settings
from hypothesis import strategies as st

CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}
NOISY = {"euler_a", "dpmpp_2m_sde", "lcm"}
SPREAD = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid config, of no particular scheduler class."""
    prediction = draw(st.sampled_from(PREDICTION_TYPES))
    spread = draw(st.sampled_from(SIGMAS))
    return {
        "num_train_timesteps": draw(st.integers(50, 1200)),
        "beta_schedule": draw(st.sampled_from(("linear", "scaled_linear", "squaredcos_cap_v2"))),
        "beta_start": draw(st.floats(1e-4, 1e-3)),
        "beta_end": draw(st.floats(5e-3, 3e-2)),
        "prediction_type": prediction,
        "timestep_spacing": draw(st.sampled_from(SPACINGS)),
        "steps_offset": draw(st.integers(0, 1)),
        "use_karras_sigmas": spread == "karras",
        "use_exponential_sigmas": spread == "exponential",
        "final_sigmas_type": draw(st.sampled_from(("zero", "sigma_min"))),
        "lower_order_final": draw(st.booleans()),
        "euler_at_final": draw(st.booleans()),
        "solver_type": draw(st.sampled_from(("midpoint", "heun", "bh1", "bh2"))),
        "solver_order": draw(st.integers(1, 3)),
        "disable_corrector": draw(st.lists(st.integers(0, 20), max_size=3)),
        "set_alpha_to_one": draw(st.booleans()),
        "rescale_betas_zero_snr": prediction != "epsilon" and draw(st.booleans()),
        "original_inference_steps": draw(st.integers(1, 50)),
    }


def compile_or_skip(config: dict[str, Any], solver: str, steps: int, **options: Any) -> Trajectory:
    """Compile a trajectory; skips numbers of steps that do not fit the config, whose refusal is tested elsewhere."""
    try:
        return compile_trajectory(config, solver, steps, **options)
    except InputError as fault:
        assume(fault.param not in ("steps", "strength"))
        raise


@settings(deadline=None, max_examples=150)
@given(configs(), st.sampled_from(list(SOLVERS)), st.integers(1, 40), st.floats(0.05, 1.0))
def test_any_valid_config_gives_finite_numbers_that_end_on_the_clean_latent(
    config: dict[str, Any], solver: str, steps: int, strength: float
) -> None:
    trajectory = compile_or_skip(config, solver, steps, strength=strength)
    run = int(steps * strength)
    calls = {"heun": 2 * run - 1, "plms": run + (run > 1)}.get(solver, run)
    assert trajectory.timestep.shape == (calls,) and trajectory.timestep.dtype == np.float32
    assert trajectory.matrix.shape == (calls, STATE_ROWS, STATE_ROWS + 2) and trajectory.matrix.dtype == np.float64
    assert trajectory.level.shape == (calls, 2) and trajectory.start.shape == (2,)
    assert np.isfinite(trajectory.matrix).all() and np.isfinite(trajectory.matrix.astype(np.float32)).all()
    assert (trajectory.timestep >= 0).all() and (trajectory.timestep < config["num_train_timesteps"]).all()
    assert trajectory.level[-1].tolist() == [1.0, 0.0]
    np.testing.assert_allclose((trajectory.level**2).sum(1), 1, atol=1e-12)
    assert not np.diff(trajectory.level[:, 1]).max(initial=0) > 0, "noise never grows"
    assert trajectory.start[0] == 0 if strength == 1 else abs((trajectory.start**2).sum() - 1) < 1e-12
    assert (trajectory.matrix[0, :, 1:STATE_ROWS] == 0).all(), "the first call reads no state row but the latent"


@settings(deadline=None, max_examples=60)
@given(configs(), st.sampled_from(list(SOLVERS)), st.integers(1, 30))
def test_a_deterministic_solver_draws_no_noise(config: dict[str, Any], solver: str, steps: int) -> None:
    trajectory = compile_or_skip(config, solver, steps)
    assert trajectory.is_noisy.any() <= (solver in NOISY)
    assert not trajectory.matrix[:, 1:, NOISE].any(), "noise is added to the latent only"


@settings(deadline=None, max_examples=100)
@given(
    configs(),
    st.sampled_from([solver for solver in SOLVERS if solver not in ("lcm", "ddim", "plms")]),
    st.integers(1, 40),
    st.floats(0.3, 1.0),
)
def test_a_perfect_model_ends_on_its_clean_latent(
    config: dict[str, Any], solver: str, steps: int, strength: float
) -> None:
    config |= {"final_sigmas_type": "zero"}
    trajectory = compile_or_skip(config, solver, steps, strength=strength)
    scheduler = parse_scheduler_config(config, SOLVERS[solver].grid)
    here = make_noise_levels(scheduler, SOLVERS[solver].grid, steps, None, None).here
    calls = SOLVERS[solver].calls(steps - int(steps * strength), steps)
    clean, state, generator = 0.7, np.zeros(STATE_ROWS), np.random.default_rng(steps)
    state[0] = trajectory.start @ [clean, 1.3]
    for k, step in enumerate(calls):
        signal, noise = here[step]
        output = {
            "epsilon": (state[0] - signal * clean) / noise,
            "v_prediction": (signal * state[0] - clean) / noise,
            "sample": clean,
        }[config["prediction_type"]]
        state = trajectory.matrix[k] @ [*state, output, generator.standard_normal()]
    assert state[0] == pytest.approx(clean, abs=1e-6)


@given(st.text(min_size=1, max_size=20), st.none() | st.booleans() | st.integers() | st.text(max_size=5))
def test_an_unknown_key_is_named(key: str, value: object) -> None:
    try:
        parse_scheduler_config({key: None})
    except BundleError:
        with pytest.raises(BundleError) as caught:
            compile_trajectory({**CONFIG, key: value}, "ddim", 10)
        assert f"{key} = {value!r}" in caught.value.seen


KEYS = (
    *(
        "num_train_timesteps",
        "beta_schedule",
        "beta_start",
        "beta_end",
        "trained_betas",
        "prediction_type",
        "sigma_min",
    ),
    *(
        "timestep_spacing",
        "steps_offset",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "sigma_max",
    ),
    *("final_sigmas_type", "lower_order_final", "euler_at_final", "solver_type", "solver_order", "disable_corrector"),
    *("set_alpha_to_one", "rescale_betas_zero_snr", "original_inference_steps", "timestep_scaling", "clip_sample"),
    *("predict_x0", "solver_p", "_class_name", "_use_default_values", "algorithm_type", "variance_type", "unheard_of"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-5, 2000)
    | st.floats()
    | st.sampled_from(("linear", "zero", "karras", "heun", "v_prediction", "LCMScheduler", "")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3), st.sampled_from(list(SOLVERS)))
def test_junk_in_a_config_is_refused_or_harmless(junk: dict[str, Any], solver: str) -> None:
    try:
        trajectory = compile_trajectory({**CONFIG, **junk}, solver, 4)
    except (BundleError, InputError) as fault:
        assert str(fault)
    else:
        assert np.isfinite(trajectory.matrix).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_number_of_steps_is_supported(solver: str) -> None:
    for steps, spacing in itertools.product((1, 2, 333, 999, 1000), ("trailing", "linspace")):
        config = {**CONFIG, "original_inference_steps": 1000}
        trajectory = compile_trajectory(config, solver, steps, spacing=spacing)
        assert np.isfinite(trajectory.matrix).all()
        # Coefficients stay small enough for the float32 of the lane.
        assert abs(trajectory.matrix).max() < 1e4


def test_noise_schedule_has_torchs_float32_bits() -> None:
    diffusers = pytest.importorskip("diffusers")
    for change in ({}, {"beta_schedule": "linear"}, {"beta_end": 0.03}, {"num_train_timesteps": 333}):
        config = {**CONFIG, **change}
        expected = diffusers.DDIMScheduler.from_config(config).alphas_cumprod.double().numpy()
        assert np.array_equal(parse_scheduler_config(config).alphas_cumprod, expected)


def test_strength_runs_the_last_steps_from_the_level_of_the_first_of_them() -> None:
    for solver in SOLVERS:
        whole, part = (compile_trajectory(CONFIG, solver, 20, strength=strength) for strength in (1.0, 0.5))
        assert len(part.timestep) == {"heun": 19, "plms": 11}.get(solver, 10)
        assert part.timestep[0] == whole.timestep[{"heun": 20, "plms": 11}.get(solver, 10)]
        assert part.start.tolist() == whole.level[{"heun": 19, "plms": 10}.get(solver, 9)].tolist()


def test_heun_and_plms_call_the_unet_more_often_than_there_are_steps() -> None:
    assert [len(compile_trajectory(CONFIG, "heun", steps).timestep) for steps in (1, 2, 10)] == [1, 3, 19]
    assert [len(compile_trajectory(CONFIG, "plms", steps).timestep) for steps in (1, 2, 10)] == [1, 3, 11]


def test_unipc_of_order_2_without_its_corrector_is_dpmpp_2m() -> None:
    config = {**CONFIG, "disable_corrector": list(range(20)), "solver_type": "bh2"}
    for kind in SIGMAS:
        unipc, dpmpp_2m = (
            compile_trajectory(config, solver, 20, sigmas=kind).matrix[:, 0] for solver in ("unipc", "dpmpp_2m")
        )
        # Their last clean estimate is in state row 2 (unipc) and 1 (dpmpp_2m).
        np.testing.assert_allclose(unipc[:, [0, 2, OUTPUT]], dpmpp_2m[:, [0, 1, OUTPUT]], atol=1e-12)


class TestConfigOfAnotherClass:
    """The config of one scheduler class with the solver of another, as in diffusers' `from_config`."""

    def test_every_config_that_diffusers_writes_for_images_is_read(self) -> None:
        diffusers = pytest.importorskip("diffusers")
        for name in (
            *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"),
            *("EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
            *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler"),
            *("UniPCMultistepScheduler", "LCMScheduler"),
        ):
            scheduler = getattr(diffusers, name)(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
            for config in (dict(scheduler.config), json.loads(scheduler.to_json_string())):
                # True by default in two classes, for pictures in [-1, 1]; latent checkpoints set it to false.
                config |= {"clip_sample": False} if "clip_sample" in config else {}
                for solver in SOLVERS:
                    assert len(compile_trajectory(config, solver, 4).timestep) >= 4, (name, solver)

    def test_a_sampling_key_affects_only_the_solvers_whose_class_has_it(self) -> None:
        affected_solvers = {
            "use_karras_sigmas": (True, set(SPREAD)),
            "use_exponential_sigmas": (True, set(SPREAD)),
            "solver_order": (3, {"unipc"}),
            "solver_type": ("heun", {"dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m"}),
            "final_sigmas_type": ("sigma_min", set(SPREAD) - {"heun"}),
            "set_alpha_to_one": (False, {"ddim"}),
            "original_inference_steps": (20, {"lcm"}),
            "timestep_scaling": (1.0, {"lcm"}),
            "disable_corrector": ([2], {"unipc"}),
        }
        for key, (value, expected) in affected_solvers.items():
            changed = set()
            for solver in SOLVERS:
                before, after = (compile_trajectory(config, solver, 16) for config in (CONFIG, {**CONFIG, key: value}))
                if not np.array_equal(before.matrix, after.matrix):
                    changed.add(solver)
            assert changed == expected, key

    def test_an_unsupported_sampling_key_is_refused_by_the_solvers_that_it_affects(self) -> None:
        for key, value, refusing in (
            ("use_beta_sigmas", True, set(SPREAD)),
            ("use_lu_lambdas", True, {"dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m"}),
            ("predict_x0", False, {"unipc"}),
            ("solver_order", 4, {"unipc"}),
            ("original_inference_steps", 2000, {"lcm"}),
            ("timestep_scaling", 1e8, {"lcm"}),
        ):
            for solver in SOLVERS:
                if solver in refusing:
                    with pytest.raises(BundleError, match=key):
                        compile_trajectory({**CONFIG, key: value}, solver, 4)
                else:
                    compile_trajectory({**CONFIG, key: value}, solver, 4)

    def test_defaults_are_those_of_the_solvers_own_class(self) -> None:
        defaulted = {**CONFIG, "set_alpha_to_one": False, "_use_default_values": ["set_alpha_to_one"]}
        assert np.array_equal(
            compile_trajectory(defaulted, "ddim", 10).matrix, compile_trajectory(CONFIG, "ddim", 10).matrix
        )
        explicit = {**CONFIG, "set_alpha_to_one": False}
        assert np.array_equal(
            compile_trajectory(defaulted, "plms", 10).matrix, compile_trajectory(explicit, "plms", 10).matrix
        )

    def test_an_argument_overrides_the_config(self) -> None:
        config = {**CONFIG, "use_karras_sigmas": True, "timestep_spacing": "leading"}
        for kind in SIGMAS:
            overridden = compile_trajectory(config, "dpmpp_2m", 10, sigmas=kind, spacing="trailing")
            expected = compile_trajectory({**CONFIG, "timestep_spacing": "trailing"}, "dpmpp_2m", 10, sigmas=kind)
            assert np.array_equal(overridden.matrix, expected.matrix)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip_sample", True),
        ("thresholding", True),
        ("use_flow_sigmas", True),
        ("timestep_type", "continuous"),
        ("interpolation_type", "log_linear"),
        ("lambda_min_clipped", -5.1),
        ("variance_type", "learned_range"),
        ("prediction_type", "flow_prediction"),
        ("beta_schedule", "sigmoid"),
        ("beta_start", "low"),
        ("beta_end", math.nan),
        ("set_alpha_to_one", "yes"),
        ("trained_betas", [2]),
        ("trained_betas", [0.1, 0.2]),
        ("num_train_timesteps", 1),
        ("num_train_timesteps", 10.5),
        ("steps_offset", -1),
        ("sigma_min", 0),
        ("sigma_max", 1e300),
        ("num_train_timesteps", 10**12),
        ("num_train_timesteps", 10**400),
        ("beta_start", 1e-12),
        ("beta_end", 0.99),
        ("_use_default_values", 3),
        ("disable_corrector", "none"),
        ("use_karras_sigmas", 1),
        ("rescale_betas_zero_snr", True),
        ("shift_of_tomorrow", 3),
    ],
)
def test_an_unsupported_config_key_is_named_with_its_value(key: str, value: object) -> None:
    with pytest.raises(BundleError, match=key):
        compile_trajectory({**CONFIG, key: value}, "ddim", 10)


def test_sigmas_that_contradict_each_other_are_named() -> None:
    with pytest.raises(BundleError, match="use_karras_sigmas, use_exponential_sigmas"):
        compile_trajectory({**CONFIG, "use_karras_sigmas": True, "use_exponential_sigmas": True}, "euler", 10)
    for change in ({"sigma_min": 3.0, "sigma_max": 2.0}, {"sigma_min": 100.0}):
        with pytest.raises(BundleError, match="sigma_min"):
            compile_trajectory({**CONFIG, **change}, "dpmpp_2m", 10, sigmas="karras")


@pytest.mark.parametrize(
    ("param", "arguments"),
    [
        ("solver", {"solver": "rk45"}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 1001}),
        ("steps", {"steps": 1000, "solver": "dpmpp_2m", "spacing": "leading"}),
        ("steps", {"steps": 51, "solver": "lcm"}),
        ("strength", {"strength": 0.0}),
        ("strength", {"strength": 1.5}),
        ("strength", {"strength": 0.01}),
        ("strength", {"strength": math.nan}),
        ("eta", {"eta": 0.5, "solver": "euler"}),
        ("eta", {"eta": math.nan}),
        ("spacing", {"spacing": "random"}),
        ("sigmas", {"sigmas": "random", "solver": "euler"}),
        ("sigmas", {"sigmas": "karras", "solver": "ddim"}),
        ("sigmas", {"sigmas": "exponential", "solver": "lcm"}),
    ],
)
def test_an_invalid_argument_is_named(param: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        compile_trajectory(CONFIG, **{"solver": "ddim", "steps": 10, **arguments})
    assert caught.value.param == param
    if param == "solver":
        assert all(name in str(caught.value) for name in SOLVERS)
