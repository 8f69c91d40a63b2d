"""Every solver's matrices walk the trajectory of diffusers' scheduler, whatever the config."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from alterbute.errors import BundleError, InputError
from alterbute.solver import NOISE, PREDICTION_TYPES, SOLVERS, SPACINGS, STATE_ROWS, SolverSteps, solver_steps
from alterbute.solver.scheduler import Floats, read_scheduler

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

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
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
}
SHAPE = (4, 6, 6)
LIMIT = 1e-5
# Where sigma starts at 4096, diffusers' Euler subtracts float32 numbers of that size: 4096 * 2^-24 = 2.4e-4.
EULER_ZERO_SNR_LIMIT = 2.5e-4
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")


def fake_model(latent: Any, timestep: float) -> Any:
    """Nonlinear in the latent and the timestep, so that an error of one step is not undone by the next."""
    return 0.7 * torch.tanh(latent) + 0.3 * torch.sin(3 * latent + timestep / 100)


def walk_matrices(plan: SolverSteps, photo: Floats, noises: Floats) -> Floats:
    """The trajectory as the step graph computes it, in float64: latents [n,C,h,w] after each step."""
    state = np.zeros((STATE_ROWS, *SHAPE))
    state[0] = plan.start[0] * photo + plan.start[1] * noises[0]
    latents = []
    for k in range(len(plan.timestep)):
        output = fake_model(torch.from_numpy(state[0]), float(plan.timestep[k])).numpy()
        stacked = np.concatenate([state, output[None], noises[k + 1][None]])
        state = np.tensordot(plan.matrix[k], stacked, axes=1)
        latents.append(state[0])
    return np.array(latents)


def walk_diffusers(solver: str, config: dict[str, Any], steps: int, photo: Floats, noises: Floats, **options: float) -> Floats:
    """The same by diffusers' own scheduler class, its latents brought to unit variance."""
    name, extra = CLASSES[solver]
    scheduler = getattr(diffusers, name).from_config({**config, **extra})
    scheduler.set_timesteps(steps)
    first = steps - int(steps * options.get("strength", 1.0))
    scheduler.set_begin_index(first) if hasattr(scheduler, "set_begin_index") else None
    timesteps = scheduler.timesteps[first:]
    noise = torch.from_numpy(noises[0]).float()
    if options.get("strength", 1.0) < 1:
        latent = scheduler.add_noise(torch.from_numpy(photo).float(), noise, timesteps[:1])
    else:
        latent = noise * scheduler.init_noise_sigma
    latents = []
    for k, timestep in enumerate(timesteps):
        output = fake_model(scheduler.scale_model_input(latent, timestep), float(timestep))
        latent = _step(scheduler, solver, output, timestep, latent, torch.from_numpy(noises[k + 1]).float(), options)
        sigma = scheduler.sigmas[first + k + 1] if solver.startswith("euler") else torch.tensor(0.0)
        latents.append((latent / (1 + sigma**2) ** 0.5).double().numpy())
    return np.array(latents)


def _step(scheduler: Any, solver: str, output: Any, timestep: Any, latent: Any, noise: Any, options: dict[str, float]) -> Any:
    if solver == "ddim":
        eta = options.get("eta", 0.0)
        return scheduler.step(output, timestep, latent, eta=eta, variance_noise=noise if eta else None).prev_sample
    if solver == "dpmpp_2m_sde":
        return scheduler.step(output, timestep, latent, variance_noise=noise).prev_sample
    if solver == "euler_a":
        # This class draws inside; hand it our noise.
        module = __import__("diffusers.schedulers.scheduling_euler_ancestral_discrete", fromlist=["randn_tensor"])
        original, module.randn_tensor = module.randn_tensor, lambda *_, **__: noise
        try:
            return scheduler.step(output, timestep, latent).prev_sample
        finally:
            module.randn_tensor = original
    return scheduler.step(output, timestep, latent).prev_sample


def trajectory_error(solver: str, config: dict[str, Any], steps: int, **options: float) -> float:
    """Largest difference of any latent of the trajectory, relative to the largest latent value at that step."""
    generator = np.random.default_rng(steps)
    # The values that float32 holds, so that both sides start from the same numbers.
    photo, noises = (
        generator.standard_normal(size).astype(np.float32).astype(np.float64) for size in (SHAPE, (steps + 1, *SHAPE))
    )
    ours = walk_matrices(solver_steps(config, solver, steps, **options), photo, noises)
    theirs = walk_diffusers(solver, config, steps, photo, noises, **options)
    axes = (1, 2, 3)
    return float((abs(ours - theirs).max(axes) / abs(theirs).max(axes)).max())


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTION_TYPES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_trajectory_is_that_of_diffusers(solver: str, prediction: str, spacing: str) -> None:
    if solver == "euler_a" and prediction == "sample":
        pytest.skip("diffusers' own class does not implement it")
    config = {**CONFIG, "prediction_type": prediction, "timestep_spacing": spacing}
    for steps in (1, 2, 3, 7, 14, 15, 20, 30, 50):
        assert trajectory_error(solver, config, steps) < LIMIT, steps


@pytest.mark.parametrize(
    "change",
    [
        {"beta_schedule": "linear", "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_end": 0.03, "prediction_type": "sample"},
        {"set_alpha_to_one": False},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False},
        {"lower_order_final": False, "euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"solver_type": "heun"},
        {"num_train_timesteps": 500},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"trained_betas": [0.001 * (k + 1) ** 0.5 for k in range(100)], "num_train_timesteps": 100},
    ],
    ids=lambda change: "-".join(map(str, change)),
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_config_key_means_what_it_means_to_diffusers(solver: str, change: dict[str, Any]) -> None:
    limit = EULER_ZERO_SNR_LIMIT if "rescale_betas_zero_snr" in change and solver.startswith("euler") else LIMIT
    if solver == "euler_a" and change.get("prediction_type") == "sample":
        pytest.skip("diffusers' own class does not implement it")
    if solver == "euler_a" and change.get("beta_schedule") == "squaredcos_cap_v2":
        pytest.skip("diffusers' own float32 sigma_down is the root of a negative number: NaN")
    for steps in (4, 10, 20):
        assert trajectory_error(solver, {**CONFIG, **change}, steps) < limit, steps


def test_eta_and_strength_are_those_of_diffusers() -> None:
    config = {**CONFIG, "timestep_spacing": "leading"}
    for steps, eta in itertools.product((5, 20), (0.3, 1.0)):
        assert trajectory_error("ddim", config, steps, eta=eta) < LIMIT
    for solver, strength in itertools.product(("ddim", "euler", "dpmpp_2m"), (0.25, 0.6, 0.95)):
        assert trajectory_error(solver, config, 20, strength=strength) < LIMIT, (solver, strength)


def test_noise_schedule_has_torchs_float32_bits() -> None:
    for change in ({}, {"beta_schedule": "linear"}, {"beta_end": 0.03}):
        config = {**CONFIG, **change}
        theirs = diffusers.DDIMScheduler.from_config(config).alphas_cumprod.double().numpy()
        assert np.array_equal(read_scheduler(config).alphas_cumprod, theirs)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_step_count_gives_finite_matrices_that_end_on_the_clean_latent(solver: str) -> None:
    for steps, spacing in itertools.product((1, 2, 333, 999, 1000), ("trailing", "linspace")):
        plan = solver_steps(CONFIG, solver, steps, spacing=spacing)
        assert plan.matrix.shape == (steps, STATE_ROWS, STATE_ROWS + 2)
        assert plan.timestep.dtype == np.float32
        assert np.isfinite(plan.matrix).all()
        assert plan.level[-1].tolist() == [1.0, 0.0]
        np.testing.assert_allclose((plan.level**2).sum(1), 1, atol=1e-12)


def test_a_deterministic_solver_takes_no_noise() -> None:
    for solver in SOLVERS:
        plan = solver_steps(CONFIG, solver, 10)
        assert plan.is_noisy[:-1].all() == plan.is_noisy.any() == (solver in ("euler_a", "dpmpp_2m_sde"))
        assert not plan.matrix[-1, :, NOISE].any(), "the last step ends on a clean latent"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clip_sample", True),
        ("thresholding", True),
        ("use_karras_sigmas", True),
        ("prediction_type", "flow_prediction"),
        ("beta_schedule", "sigmoid"),
        ("beta_start", "low"),
        ("set_alpha_to_one", "yes"),
        ("trained_betas", [2]),
        ("num_train_timesteps", 1),
        ("rescale_betas_zero_snr", True),
        ("shift_of_tomorrow", 3),
    ],
)
def test_an_unsupported_config_key_is_named_with_its_value(key: str, value: object) -> None:
    with pytest.raises(BundleError, match=key):
        solver_steps({**CONFIG, key: value}, "ddim", 10)


@pytest.mark.parametrize(
    ("param", "arguments"),
    [
        ("solver", {"solver": "rk45"}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 1001}),
        ("steps", {"steps": 1000, "solver": "dpmpp_2m", "spacing": "leading"}),
        ("strength", {"strength": 0.0}),
        ("strength", {"strength": 1.5}),
        ("strength", {"strength": 0.01}),
        ("eta", {"eta": 0.5, "solver": "euler"}),
        ("eta", {"eta": float("nan")}),
        ("spacing", {"spacing": "random"}),
    ],
)
def test_a_bad_argument_is_named(param: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        solver_steps(CONFIG, **{"solver": "ddim", "steps": 10, **arguments})
    assert caught.value.param == param
    if param == "solver":
        assert all(name in str(caught.value) for name in SOLVERS)
