"""The scheduler: an image does not depend on the requests that share, leave or break its launches."""

from __future__ import annotations

import random
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from alterbute import Editor
from alterbute.backends import Array, Arrays
from alterbute.denoise.plan import make_plan
from alterbute.errors import Cancelled, DeadlineExceeded, DeviceError, EngineError, InputError, OverloadedError
from alterbute.images import load_photo
from alterbute.request import EditRequest
from alterbute.serve.scheduler.admission import Admission
from alterbute.serve.scheduler.server_request import ServerRequest, ServerResult

from tests.support.pictures import noise
from tests.support.scheduling import open_service
from tests.support.serving import holding_launches, mask_array, wait_until

REQUESTS = (
    EditRequest(prompt="color: red", steps=5, guidance=1.5, seed=1),
    EditRequest(prompt="color: blue", steps=3, solver="ddim", guidance=1.0, seed=2),
    EditRequest(prompt="color: red", steps=8, solver="euler_a", guidance=4.0, seed=3),
    EditRequest(prompt="color: green", steps=1, guidance=1.0, seed=4),
    EditRequest(prompt="color: blue", steps=6, solver="dpmpp_2m_sde", guidance=2.0, identity_scale=0.5, seed=5),
)


def pixels(result: ServerResult, number: int = 0) -> Array:
    """Pixels [H,W,3] uint8 of a result's image."""
    return result.edits[number].photo.pixels


def solo_images(bundle: Path) -> list[Array]:
    """Pixels of each of `REQUESTS`, run alone by an editor; request i edits the photo of seed i."""
    with Editor.open(bundle, threads=1) as editor:
        return [
            np.asarray(editor.edit(load_photo(noise(48, 64, seed=seed)), mask_array(), request).image)
            for seed, request in enumerate(REQUESTS)
        ]


def test_requests_at_random_times_give_the_bytes_that_each_gives_alone(tiny_bundle: Path) -> None:
    expected = solo_images(tiny_bundle)
    generator = random.Random(0)
    with open_service(tiny_bundle, slots=3, max_queue=100) as hooked:
        hooked.hooks.step_s = 0.005
        server_requests = []
        for _ in range(30):
            number = generator.randrange(len(REQUESTS))
            server_requests.append((number, hooked.submit(REQUESTS[number], seed=number)))
            time.sleep(generator.random() * 0.01)
        for number, server_request in server_requests:
            assert np.array_equal(pixels(server_request.future.result(20)), expected[number]), number


def test_requests_that_share_launches_give_the_bytes_that_each_gives_alone(tiny_bundle: Path) -> None:
    expected, numbers = solo_images(tiny_bundle), (0, 2, 4)
    with open_service(tiny_bundle, slots=3) as hooked:
        worker = hooked.service.workers[0]

        def hold(graph: str, inputs: Arrays) -> None:
            if graph == "step" and not hooked.hooks.launches:
                wait_until(lambda: len(worker._inbox) + len(worker._queues.all_requests()) == len(numbers))

        hooked.hooks.before = hold
        server_requests = [hooked.submit(REQUESTS[number], seed=number) for number in numbers]
        for number, server_request in zip(numbers, server_requests, strict=True):
            assert np.array_equal(pixels(server_request.future.result(20)), expected[number]), number
        assert max(slots for slots, _ in hooked.hooks.launches) == 3


@pytest.mark.parametrize("admission", ["request", "single"])
def test_request_level_and_single_admission_give_the_same_bytes(tiny_bundle: Path, admission: Admission) -> None:
    expected = solo_images(tiny_bundle)
    with open_service(tiny_bundle, slots=3, admission=admission) as hooked:
        server_requests = [hooked.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for number, server_request in enumerate(server_requests):
            assert np.array_equal(pixels(server_request.future.result(20)), expected[number])
        hooked.hooks.step_s = 0.02
        first = hooked.submit(EditRequest(prompt="", steps=400, seed=0))
        wait_until(lambda: hooked.service.workers[0].num_running == 1)
        rest = [hooked.submit(EditRequest(prompt="", steps=4, seed=seed), seed=seed) for seed in range(1, 3)]
        wait_until(lambda: len(hooked.service.workers[0]._queues.ready) == 2)
        assert hooked.service.workers[0].num_running == 1
        first.cancel()
        wait_until(lambda: hooked.service.workers[0].num_running == (2 if admission == "request" else 1))
        assert all(server_request.future.result(20).edits for server_request in rest)


def test_two_lanes_share_the_work(tiny_bundle: Path) -> None:
    with open_service(tiny_bundle, slots=1, lanes=2) as hooked:
        with holding_launches(hooked.hooks):
            server_requests = [hooked.submit(REQUESTS[0], seed=0) for _ in range(2)]
            wait_until(lambda: [worker.num_running for worker in hooked.service.workers] == [1, 1])
        results = [server_request.future.result(20) for server_request in server_requests]
        assert np.array_equal(pixels(results[0]), pixels(results[1]))


def test_a_short_request_overtakes_long_ones_that_wait(tiny_bundle: Path) -> None:
    order: list[str] = []
    with open_service(tiny_bundle, slots=1) as hooked:
        hooked.submit(EditRequest(prompt="", steps=3, seed=0)).future.result(10)  # so that launches are measured
        with holding_launches(hooked.hooks):
            hooked.submit(EditRequest(prompt="", steps=2, seed=0))
            wait_until(lambda: hooked.service.workers[0].num_running == 1)
            names = {"long": 40, "second long": 40, "short": 2}
            for name, steps in names.items():
                server_request = hooked.submit(EditRequest(prompt="", steps=steps, seed=0))
                server_request.future.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
            # All three are in the inbox before the next launch: only then does priority decide their order, not a race.
            wait_until(lambda: len(hooked.service.workers[0]._inbox) == 3)
        wait_until(lambda: len(order) == 3, 20)
    assert order == ["short", "long", "second long"]


def test_cancel_frees_the_slot_within_one_step(tiny_bundle: Path) -> None:
    running: list[int] = []  # images in the lane at each launch
    with open_service(tiny_bundle, slots=2) as hooked:
        worker = hooked.service.workers[0]
        cancelled: list[ServerRequest] = []

        def cancel_once(graph: str, inputs: Arrays) -> None:
            if graph == "step":
                wait_until(lambda: bool(cancelled))
                running.append(worker.num_running)
                if running[-1] == 2:
                    cancelled[0].cancel()

        hooked.hooks.before = cancel_once
        other = hooked.submit(EditRequest(prompt="", steps=40, seed=1), seed=1)
        wait_until(lambda: worker.num_running == 1)
        second = hooked.submit(EditRequest(prompt="", steps=200, seed=0))
        # Held in its first launch, so that the second request arrives before the last one.
        wait_until(lambda: len(worker._inbox) == 1)
        cancelled.append(second)
        assert other.future.result(20).edits
        with pytest.raises(Cancelled):
            second.future.result(20)
    assert running.count(2) == 1, running


def test_cancelling_at_a_hundred_random_moments_leaves_nothing_behind(tiny_bundle: Path) -> None:
    generator = random.Random(1)
    with open_service(tiny_bundle, slots=3, max_queue=200) as hooked:
        hooked.hooks.step_s = 0.002
        server_requests = [hooked.submit(EditRequest(prompt="", steps=20, seed=seed)) for seed in range(100)]
        for server_request in generator.sample(server_requests, len(server_requests)):
            time.sleep(generator.random() * 0.01)
            server_request.cancel()
        wait_until(lambda: hooked.service.num_accepted == 0)
        assert (hooked.service.num_running, hooked.service.num_waiting, hooked.service.workers[0].num_running) == (
            0,
            0,
            0,
        )
        assert not hooked.service.editor.lane.steps_done
        hooked.hooks.step_s = 0.0
        assert np.array_equal(pixels(hooked.submit(REQUESTS[0]).future.result(10)), solo_images(tiny_bundle)[0])


def test_a_request_that_breaks_launches_fails_alone_and_is_quarantined(tiny_bundle: Path) -> None:
    expected = solo_images(tiny_bundle)

    def break_on_poison(graph: str, inputs: Arrays) -> None:
        if graph == "step" and (inputs["timestep"][inputs["owner"]] == poison).any():
            raise RuntimeError("out of memory")

    with open_service(tiny_bundle) as hooked:
        bad = EditRequest(prompt="", steps=7, seed=0)
        poison = make_plan(bad, hooked.service.editor.manifest, seed=0, image=0).timestep[3]
        assert all(
            poison not in make_plan(request, hooked.service.editor.manifest, seed=0, image=0).timestep
            for request in REQUESTS
        )
        hooked.hooks.before = break_on_poison
        broken = hooked.submit(bad, seed=9)
        server_requests = [hooked.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for number, server_request in enumerate(server_requests):
            assert np.array_equal(pixels(server_request.future.result(20)), expected[number]), number
        with pytest.raises(EngineError):
            broken.future.result(20)
        with pytest.raises(InputError, match="broke the engine"):
            hooked.submit(bad, seed=9)


def test_a_request_whose_numbers_are_not_finite_fails_alone(tiny_bundle: Path) -> None:
    expected = solo_images(tiny_bundle)
    with open_service(tiny_bundle) as hooked:
        bad = EditRequest(prompt="", steps=7, seed=0)
        poison = make_plan(bad, hooked.service.editor.manifest, seed=0, image=0).timestep[3]

        def spoil(graph: str, inputs: Arrays) -> None:
            if graph == "step":
                inputs["scene"][inputs["timestep"] == poison] = np.nan

        hooked.hooks.before = spoil
        broken = hooked.submit(bad, seed=9)
        server_requests = [hooked.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for number, server_request in enumerate(server_requests):
            assert np.array_equal(pixels(server_request.future.result(20)), expected[number]), number
        with pytest.raises(EngineError, match="not finite"):
            broken.future.result(20)


def test_a_photo_that_cannot_be_encoded_fails_alone(tiny_bundle: Path) -> None:
    has_failed = threading.Event()

    def break_first_scene(graph: str, inputs: Arrays) -> None:
        if graph == "scene" and not has_failed.is_set():
            has_failed.set()
            raise RuntimeError("bad scene")

    with open_service(tiny_bundle) as hooked:
        hooked.hooks.before = break_first_scene
        first = hooked.submit(REQUESTS[0], seed=0)
        with pytest.raises(EngineError):
            first.future.result(10)
        assert hooked.submit(REQUESTS[1], seed=1).future.result(10).edits


def test_a_fatal_fault_fails_all_requests_and_the_health_check(tiny_bundle: Path) -> None:
    def die(graph: str, inputs: Arrays) -> None:
        if graph == "step":
            raise DeviceError("illegal address", "a sound device", "restart", is_fatal=True)

    with open_service(tiny_bundle) as hooked:
        hooked.hooks.before = die
        server_requests = [hooked.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for server_request in server_requests:
            with pytest.raises(DeviceError):
                server_request.future.result(10)
        assert hooked.service.failure_reason() == "device_fault"


def test_a_deadline_ends_a_running_request_between_two_steps(tiny_bundle: Path) -> None:
    with open_service(tiny_bundle) as hooked:
        hooked.hooks.step_s = 0.05
        server_request = hooked.submit(EditRequest(prompt="", steps=10, seed=0), timeout_s=0.45)
        start = time.monotonic()
        with pytest.raises((DeadlineExceeded, OverloadedError)):
            server_request.future.result(5)
        assert time.monotonic() - start < 5.0


def test_a_request_that_cannot_meet_its_deadline_is_refused_at_submission(tiny_bundle: Path) -> None:
    with open_service(tiny_bundle) as hooked:
        hooked.hooks.step_s = 0.05
        hooked.submit(REQUESTS[0]).future.result(10)  # so that launches are measured
        with pytest.raises(OverloadedError) as caught:
            hooked.submit(EditRequest(prompt="", steps=100, seed=0), timeout_s=1.0)
        assert caught.value.code == "deadline_unreachable"


def test_a_full_queue_refuses_at_once_and_names_the_seconds_to_wait(tiny_bundle: Path) -> None:
    with open_service(tiny_bundle, slots=1, max_queue=2) as hooked, holding_launches(hooked.hooks):
        for seed in range(3):
            hooked.submit(EditRequest(prompt="", steps=20, seed=seed))
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            with pytest.raises(OverloadedError) as caught:
                hooked.submit(REQUESTS[0])
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 0.05
        assert caught.value.code == "queue_full"
        assert 1 <= caught.value.retry_after_s <= 60


def test_drain_refuses_new_requests_and_finishes_accepted_ones(tiny_bundle: Path) -> None:
    with open_service(tiny_bundle, slots=2) as hooked:
        hooked.hooks.step_s = 0.01
        server_requests = [hooked.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        hooked.service.drain()
        with pytest.raises(OverloadedError) as caught:
            hooked.submit(REQUESTS[0])
        assert caught.value.code == "draining"
        assert all(server_request.future.result(20).edits for server_request in server_requests)


def test_launches_continue_between_encoding_and_decoding(tiny_bundle: Path) -> None:
    """While other requests are encoded and decoded, a launch runs between any two of these pieces of work."""
    log: list[str] = []

    def log_graph(graph: str, outputs: dict[str, Array]) -> None:
        if graph in ("step", "scene", "decode"):
            log.append(graph)

    with open_service(tiny_bundle, slots=2, max_queue=100) as hooked:
        hooked.hooks.step_s = 0.01
        long = hooked.submit(EditRequest(prompt="", steps=1000, seed=0))
        wait_until(lambda: hooked.service.workers[0].num_running == 1)
        hooked.hooks.after = log_graph

        def slow(graph: str, inputs: Arrays) -> None:
            if graph in ("scene", "decode"):
                # As long as the last launch on any machine, so that only one such piece fits between two launches.
                time.sleep(max(0.03, hooked.service.workers[0]._last_launch_s))

        hooked.hooks.before = slow
        others = [hooked.submit(EditRequest(prompt="", steps=1, seed=seed), seed=seed) for seed in range(1, 9)]
        for server_request in others:
            server_request.future.result(30)
        assert not long.is_over
        long.cancel()
    pieces = [index for index, graph in enumerate(log) if graph != "step"]
    distances = [later - earlier for earlier, later in pairwise(pieces) if "step" in log[later:]]
    assert distances
    assert min(distances) >= 2, log
