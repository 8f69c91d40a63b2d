"""The lane gives each image the bits that it gets alone, whichever images join or leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.backends import Array, open_backend
from alterbute.bundle import Manifest, TensorSpec, open_bundle
from alterbute.denoise.guidance import Row
from alterbute.denoise.lane import Conditioning, Job, Lane
from alterbute.denoise.noise import draw_noise
from alterbute.denoise.plan import Plan, make_plan
from alterbute.errors import BundleError, Cancelled
from alterbute.request import EditRequest

from tests.support.backends import FakeBackend, fake_unet
from tests.support.bundles import stub_manifest

REQUESTS = (
    EditRequest(prompt="a", steps=5, solver="dpmpp_2m", guidance=1.5),
    EditRequest(prompt="b", steps=3, solver="ddim", guidance=1.0),
    EditRequest(prompt="c", steps=6, solver="euler_a", guidance=4.0, identity_scale=0.5),
    EditRequest(prompt="d", steps=1, solver="dpmpp_2m_sde", guidance=1.0),
    EditRequest(prompt="e", steps=4, solver="euler", guidance=2.0),
)
STEP_INPUTS = (
    *("state", "noise", "timestep", "solver", "reinject", "background", "background_noise", "keep", "scene"),
    *("owner", "guidance", "source_on", "text", "identity", "identity_scale", "guidance_rescale", "rescale_row"),
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The stub manifest, with every input that a step graph may have."""
    return with_all_step_inputs(stub_manifest(tmp_path))


def with_all_step_inputs(manifest: Manifest) -> Manifest:
    inputs = tuple(TensorSpec(name=name, dtype="float32", shape=()) for name in STEP_INPUTS)
    return replace(manifest, graphs={**manifest.graphs, "step": replace(manifest.graphs["step"], inputs=inputs)})


def make_job(manifest: Manifest, number: int, **changes: Any) -> Job:
    """A job of REQUESTS[number] whose conditioning depends on the number only; `changes` are fields of its plan."""
    generator = np.random.default_rng(number)
    side, text, identity = manifest.resolution // manifest.latent_factor, manifest.text, manifest.identity
    assert identity is not None

    def draw(*shape: int) -> Array:
        return generator.standard_normal(shape, np.float32)

    conditioning = Conditioning(
        scene=draw(manifest.scene_channels, side, side),
        background=draw(manifest.latent_channels, side, side),
        keep=(generator.random((1, side, side)) < 0.5).astype(np.float32),
        text={"prompt": draw(text.tokens, text.dim), "negative": draw(text.tokens, text.dim)},
        pooled={},
        identity={"given": draw(*identity.shape), "null": draw(*identity.shape)},
    )
    plan = make_plan(REQUESTS[number], manifest, seed=number, image=0)
    return Job(plan=replace(plan, **changes), conditioning=conditioning)


def denoise_alone(job: Job) -> Array:
    """The plain loop that a lane must equal, in float64, with one UNet call per row."""
    plan, conditioning = job.plan, job.conditioning
    background = conditioning.background.astype(np.float64)
    first = draw_noise(plan.seed, plan.image, 0, background.shape).astype(np.float64)
    state: Array = np.zeros((4, *background.shape))
    state[0] = plan.start[0] * background + plan.start[1] * first
    for k in range(plan.steps):
        guided = sum(row.weight * call_unet(plan, conditioning, state[0], k, row) for row in plan.rows[k])
        noise = draw_noise(plan.seed, plan.image, k + 1, background.shape)
        state = np.tensordot(plan.matrix[k].astype(np.float64), np.stack([*state, guided, noise]), axes=1)
        if plan.reinject:
            signal, sigma = plan.level[k].astype(np.float64)
            state[0] = conditioning.keep * (signal * background + sigma * first) + (1 - conditioning.keep) * state[0]
    latent: Array = state[0]
    return latent


def call_unet(plan: Plan, conditioning: Conditioning, latent: Array, k: int, row: Row) -> Array:
    scale = np.array([plan.identity_scale])
    scene = conditioning.scene[None].copy()
    scene[:, -1] *= row.source_on
    rows = fake_unet(
        latent[None],
        scene,
        plan.timestep[k : k + 1],
        conditioning.text[row.text][None],
        conditioning.identity[row.identity][None],
        scale,
    )
    output: Array = rows[0]
    return output


@pytest.mark.parametrize("reinject", [False, True])
def test_mixed_jobs_equal_the_plain_loop(manifest: Manifest, reinject: bool) -> None:
    three_rows = (
        Row(weight=-0.5, text="negative", identity="null", source_on=0.0),
        Row(weight=-1.0, text="negative"),
        Row(weight=2.5),
    )
    jobs = [make_job(manifest, number, reinject=reinject) for number in range(len(REQUESTS))]
    jobs[0] = make_job(
        manifest, 0, reinject=reinject, rows=(three_rows, three_rows, three_rows[2:], three_rows, three_rows[1:])
    )
    results = list(Lane(FakeBackend(), manifest, slots=3).run(jobs))
    assert len(results) == len(jobs)
    for result in results:
        expected = denoise_alone(result.job)
        assert abs(result.latent - expected).max() <= 1e-4 * abs(expected).max()
        if reinject:
            kept = np.broadcast_to(result.job.conditioning.keep == 1, result.latent.shape)
            assert np.array_equal(result.latent[kept], result.job.conditioning.background[kept])


def test_a_launch_holds_the_rows_of_its_images_and_no_more(manifest: Manifest) -> None:
    backend = FakeBackend()
    list(Lane(backend, manifest, slots=4).run([make_job(manifest, 0), make_job(manifest, 1)]))
    assert backend.launches == [(2, 3)] * 3 + [(1, 2)] * 2


def test_an_image_that_joins_midway_changes_no_bit(tiny_bundle: Path) -> None:
    manifest, lane = open_lane(tiny_bundle)
    early, late = make_job(manifest, 0), make_job(manifest, 2)
    alone = [finish(lane, [job])[0] for job in (early, late)]
    lane.admit(early)
    assert lane.step() == lane.step() == []
    lane.admit(late)
    together = [result for _ in range(6) for result in lane.step()]
    assert [result.job for result in together] == [early, late]
    for result, expected in zip(together, alone, strict=True):
        assert np.array_equal(result.latent, expected)


def test_alone_equals_batched_to_the_bit_on_onnx_runtime(tiny_bundle: Path) -> None:
    manifest, lane = open_lane(tiny_bundle)
    jobs = [make_job(manifest, number) for number in range(len(REQUESTS))]
    alone = [finish(lane, [job])[0] for job in jobs]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 3], [3, 0, 1]):
        together = finish(lane, [jobs[number] for number in order])
        for number, latent in zip(order, together, strict=True):
            assert np.array_equal(latent, alone[number]), (order, number)


def test_slots_and_threads_change_no_bit(tiny_bundle: Path) -> None:
    manifest, lane = open_lane(tiny_bundle, slots=1, threads=2)
    _, larger_lane = open_lane(tiny_bundle, slots=5, threads=1)
    jobs = [make_job(manifest, number) for number in range(3)]
    for latent, expected in zip(finish(larger_lane, jobs), finish(lane, jobs), strict=True):
        assert np.array_equal(latent, expected)


def test_cancel_stops_before_the_next_launch_and_leaves_the_lane_clean(manifest: Manifest) -> None:
    backend = FakeBackend()
    lane = Lane(backend, manifest, slots=2)
    expected = finish(lane, [make_job(manifest, 0)])[0]
    backend.launches.clear()
    steps: list[int] = []
    job = replace(make_job(manifest, 0), on_step=steps.append)
    with pytest.raises(Cancelled):
        list(lane.run([job, make_job(manifest, 2)], cancel=lambda: len(steps) == 2))
    assert len(backend.launches) == 2
    assert np.array_equal(finish(lane, [make_job(manifest, 0)])[0], expected)


def poison(job: Job, step: int) -> Job:
    """The job with UNet rows that are NaN at one step; guidance spreads the NaN over the whole launch."""
    timestep = job.plan.timestep.copy()
    timestep[step - 1] = np.nan
    return replace(job, plan=replace(job.plan, timestep=timestep))


def test_numbers_that_are_not_finite_end_the_image_and_name_the_step(manifest: Manifest) -> None:
    lane = Lane(FakeBackend(), manifest, slots=2)
    (result,) = lane.run([poison(make_job(manifest, 0), 3)])
    assert "step 3 of 5" in str(result.fault)
    assert np.isfinite(finish(lane, [make_job(manifest, 0)])[0]).all()


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize("broken_at", [1, 2, 5])
def test_an_image_with_nan_changes_no_bit_of_the_others(manifest: Manifest, broken_at: int, rescale: float) -> None:
    lane = Lane(FakeBackend(), manifest, slots=3)
    # The last job has a single row: run alone, its launch has fewer rows than the `rescale_row` of the other jobs.
    good = [make_job(manifest, number, guidance_rescale=rescale) for number in (2, 1)]
    alone = [finish(lane, [job])[0] for job in good]
    bad = poison(make_job(manifest, 0, guidance_rescale=rescale), broken_at)
    results = {result.job: result for result in lane.run([good[0], bad, good[1]])}
    assert f"step {broken_at} of 5" in str(results[bad].fault)
    for job, latent in zip(good, alone, strict=True):
        assert results[job].fault is None
        assert np.array_equal(results[job].latent, latent)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_image_with_nan_changes_no_bit_of_the_others_on_onnx_runtime(tiny_bundle: Path, broken: int) -> None:
    """With guidance: a slot has several rows, and `rescale_row` exceeds the rows of a slot that is run alone."""
    manifest, lane = open_lane(tiny_bundle, slots=3)
    jobs = [make_job(manifest, number, guidance_rescale=0.5) for number in (0, 2, 4)]
    alone = [finish(lane, [job])[0] for job in jobs]
    matrix = jobs[broken].plan.matrix.copy()
    matrix[1:] = np.nan
    jobs[broken] = replace(jobs[broken], plan=replace(jobs[broken].plan, matrix=matrix))
    for result in lane.run(jobs):
        number = jobs.index(result.job)
        assert (result.fault is not None) == (number == broken)
        assert number == broken or np.array_equal(result.latent, alone[number])
    assert lane.steps_done == {}


def test_every_index_of_a_launch_points_into_it_whatever_the_previous_launch_was(manifest: Manifest) -> None:
    """Also in the rows beyond the launch: a device pads a launch with the rows that follow in the buffers."""
    lane = Lane(FakeBackend(), manifest, slots=4)
    buffers = lane._sizes[make_job(manifest, 0).cells]._buffers
    jobs = [make_job(manifest, number) for number in (0, 1, 2)]
    for members in ([0, 1, 2], [2], [0, 1]):
        list(lane.run([jobs[number] for number in members]))
        inputs = buffers.inputs()
        slots, rows = inputs["guidance"].shape
        assert inputs["rescale_row"].max() < rows
        assert buffers._per_row["owner"].max() < slots


def test_a_row_without_its_input_is_refused(manifest: Manifest) -> None:
    job = make_job(manifest, 0)
    without_identity = replace(job, conditioning=replace(job.conditioning, identity={}))
    with pytest.raises(BundleError, match="`identity`"):
        list(Lane(FakeBackend(), manifest, slots=1).run([without_identity]))


def open_lane(bundle: Path, *, slots: int = 4, threads: int = 1) -> tuple[Manifest, Lane]:
    opened = open_bundle(bundle)
    return opened.manifest, Lane(open_backend("onnxruntime", opened, threads=threads), opened.manifest, slots=slots)


def finish(lane: Lane, jobs: list[Job]) -> list[Array]:
    """Denoise jobs; returns their latents in the order of the jobs."""
    latents = {result.job: result.latent for result in lane.run(jobs)}
    return [latents[job] for job in jobs]
