"""Launch cost, priority, limits and previews of the scheduler, without an engine."""

from __future__ import annotations

import numpy as np
import pytest
from alterbute.denoise.guidance import Row
from alterbute.denoise.plan import Plan
from alterbute.errors import OverloadedError
from alterbute.serve.http.limits import MemoryBudget, RateLimit
from alterbute.serve.scheduler.admission import LaunchCost, priority
from alterbute.serve.scheduler.preview import clean_estimate, preview_steps
from hypothesis import given
from hypothesis import strategies as st


def test_launch_time_is_predicted_from_launches_of_other_sizes() -> None:
    cost = LaunchCost()
    cost.observe(2, 30.0)  # the first launch loads the engine, and is not counted
    assert cost.seconds(5) == 0
    for rows in (2, 8, 4, 6) * 30:
        cost.observe(rows, 0.01 + 0.005 * rows)
    assert cost.seconds(5) == pytest.approx(0.035, rel=0.01)
    assert cost.seconds_per_row() == pytest.approx(0.01 / 5 + 0.005, rel=0.05)
    assert cost.slow_s == pytest.approx(0.05)


def test_launches_of_one_size_give_equal_seconds_per_row() -> None:
    cost = LaunchCost()
    for _ in range(10):
        cost.observe(4, 0.04)
    assert cost.seconds(4) == pytest.approx(0.04)
    assert cost.seconds_per_row() == pytest.approx(0.01)


@given(st.lists(st.tuples(st.integers(1, 48), st.floats(1e-4, 1.0)), min_size=2, max_size=60), st.integers(1, 48))
def test_a_prediction_is_finite_and_never_negative(launches: list[tuple[int, float]], rows: int) -> None:
    cost = LaunchCost()
    for size, seconds in launches:
        cost.observe(size, seconds)
    assert 0 <= cost.seconds(rows) < 60
    assert 0 <= cost.seconds_per_row() < 60


def test_short_work_overtakes_earlier_long_work_for_a_limited_time() -> None:
    def key(arrived_s: float, work_s: float, deadline_s: float = 1e9) -> float:
        return priority(arrived_s=arrived_s, deadline_s=deadline_s, work_s=work_s, stretch=5)

    assert key(1.0, 0.2) < key(0.0, 2.0)
    assert key(20.0, 0.2) > key(0.0, 2.0)
    assert key(0.0, 2.0, deadline_s=3.0) < key(1.0, 0.2)
    assert priority(arrived_s=0, deadline_s=1e9, work_s=9, stretch=0) < priority(
        arrived_s=1, deadline_s=1e9, work_s=1, stretch=0
    )


def test_a_rate_limit_refills_and_names_the_seconds_to_wait() -> None:
    now = 0.0
    limit = RateLimit(2.0, 10.0, clock=lambda: now)
    limit.take("a", 10)
    with pytest.raises(OverloadedError) as caught:
        limit.take("a", 4)
    assert caught.value.retry_after_s == pytest.approx(2)
    limit.take("b", 4)
    now = 2.0
    limit.take("a", 4)
    now = 100.0
    limit.take("a", 1000)  # more than the bucket holds: it is accepted, and empties the bucket
    with pytest.raises(OverloadedError):
        limit.take("a", 0.1)
    RateLimit(0, 1).take("a", 1e9)


def test_reserved_memory_is_released_once() -> None:
    budget = MemoryBudget(100)
    first, second = budget.open(), budget.open()
    first.take(60)
    with pytest.raises(OverloadedError):
        second.take(41)
    second.take(40)
    first.release()
    first.release()
    assert budget.used_bytes == 40
    second.release()
    assert budget.used_bytes == 0


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 20, 100])
def test_previews_follow_neither_the_first_nor_the_last_step(steps: int, count: int) -> None:
    preview_at = preview_steps(steps, count)
    assert len(preview_at) <= count
    assert all(1 < step < steps for step in preview_at)
    if steps >= 8:
        assert len(preview_at) == count


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "solver", ["ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "dpmpp_3m", "heun", "lcm"]
)
def test_the_clean_estimate_equals_the_prediction_of_the_unet(solver: str, prediction: str) -> None:
    from alterbute.solver import compile_trajectory

    config = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    }
    try:
        trajectory = compile_trajectory(
            {**config, "prediction_type": prediction, "num_train_timesteps": 1000}, solver, 12
        )
    except Exception as fault:
        pytest.skip(f"{solver}: {fault}")
    count = len(trajectory.timestep)
    plan = Plan(
        timestep=trajectory.timestep,
        matrix=trajectory.matrix.astype(np.float32),
        level=trajectory.level.astype(np.float32),
        start=(0.0, 1.0),
        rows=((Row(weight=1.0),),) * count,
        is_noisy=trajectory.is_noisy,
        identity_scale=1.0,
        guidance_rescale=0.0,
        reinject=False,
        seed=0,
        image=0,
    )
    generator = np.random.default_rng(0)
    clean, eps = (generator.standard_normal((4, 6, 6)) for _ in range(2))
    for step in (3, 5, 8):
        signal, sigma = (float(scale) for scale in plan.level[step - 1])
        before = generator.standard_normal((4, 4, 6, 6))
        before[0] = signal * clean + sigma * eps
        output = {"sample": clean, "epsilon": eps, "v_prediction": signal * eps - sigma * clean}[prediction]
        noise = generator.standard_normal((4, 6, 6))
        after = np.tensordot(plan.matrix[step].astype(np.float64), np.stack([*before, output, noise]), axes=1)
        estimate = clean_estimate(plan, step, prediction, before, after, noise)
        assert abs(estimate - clean).max() < 2e-3, (solver, step)
