"""The lane as a service: who shares, leaves or breaks a launch is nobody else's business."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from alterbute import Editor
from alterbute.backends import Array, Arrays, open_backend
from alterbute.bundle import open_bundle
from alterbute.denoise.plan import make_plan
from alterbute.errors import Cancelled, DeadlineExceeded, DeviceError, EngineError, InputError, OverloadedError
from alterbute.images import load_photo, load_region
from alterbute.request import EditRequest
from alterbute.serve.scheduler.admission import Admission
from alterbute.serve.scheduler.server_request import RequestSpec, ServerRequest, ServerResult
from alterbute.serve.scheduler.service import Service

from tests.support.pictures import noise
from tests.support.serving import HookedBackend, Hooks, mask_array, wait_until

REQUESTS = (
    EditRequest(prompt="color: red", steps=5, guidance=1.5, seed=1),
    EditRequest(prompt="color: blue", steps=3, solver="ddim", guidance=1.0, seed=2),
    EditRequest(prompt="color: red", steps=8, solver="euler_a", guidance=4.0, seed=3),
    EditRequest(prompt="color: green", steps=1, guidance=1.0, seed=4),
    EditRequest(prompt="color: blue", steps=6, solver="dpmpp_2m_sde", guidance=2.0, identity_scale=0.5, seed=5),
)


class Bench:
    """A service on hooked backends, and asks for it."""

    def __init__(self, service: Service, hooks: Hooks) -> None:
        self.service, self.hooks = service, hooks

    def spec(self, *requests: EditRequest, seed: int = 0, timeout_s: float = 30.0) -> RequestSpec:
        photo = load_photo(noise(48, 64, seed=seed))
        plan = make_plan(requests[0], self.service.editor.manifest, seed=0, image=0)
        return RequestSpec(
            photo=photo,
            region=load_region(mask_array(), photo),
            reference=None,
            requests=requests,
            rows=len(requests) * sum(len(rows) for rows in plan.rows),
            steps=plan.steps,
            deadline_s=time.monotonic() + timeout_s,
            fingerprint=bytes([seed]),
        )

    def submit(self, *requests: EditRequest, seed: int = 0, timeout_s: float = 30.0) -> ServerRequest:
        return self.service.submit(self.spec(*requests, seed=seed, timeout_s=timeout_s))


@contextmanager
def bench(
    bundle: Path, *, slots: int = 4, max_queue: int = 16, lanes: int = 1, admission: Admission = "step"
) -> Iterator[Bench]:
    hooks, opened = Hooks(), open_bundle(bundle)
    editors = [
        Editor(opened, backend=HookedBackend(open_backend("onnxruntime", opened, threads=1), hooks), slots=slots)
        for _ in range(lanes)
    ]
    with ThreadPoolExecutor(2) as pool:
        service = Service(editors, pool, slots=slots, max_queue=max_queue, admission=admission)
        yield Bench(service, hooks)
        hooks.step_s = 0.0
        hooks.before = lambda graph, inputs: None
        service.close()


def image(served: ServerResult, number: int = 0) -> Array:
    return served.edits[number].photo.pixels


def solo_images(bundle: Path) -> list[Array]:
    with Editor.open(bundle, threads=1) as editor:
        return [
            np.asarray(editor.edit(load_photo(noise(48, 64, seed=seed)), mask_array(), request).image)
            for seed, request in enumerate(REQUESTS)
        ]


def test_requests_that_come_and_go_at_random_have_the_bytes_that_each_has_alone(tiny_bundle: Path) -> None:
    expected = solo_images(tiny_bundle)
    generator = random.Random(0)
    with bench(tiny_bundle, slots=3, max_queue=100) as here:
        here.hooks.step_s = 0.005
        tickets = []
        for _ in range(30):
            number = generator.randrange(len(REQUESTS))
            tickets.append((number, here.submit(REQUESTS[number], seed=number)))
            time.sleep(generator.random() * 0.01)
        for number, server_request in tickets:
            assert np.array_equal(image(server_request.future.result(20)), expected[number]), number
        assert max(slots for slots, _ in here.hooks.launches) >= 3


@pytest.mark.parametrize("admission", ["request", "single"])
def test_the_other_admissions_give_the_same_bytes(tiny_bundle: Path, admission: Admission) -> None:
    expected = solo_images(tiny_bundle)
    with bench(tiny_bundle, slots=3, admission=admission) as here:
        tickets = [here.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for number, server_request in enumerate(tickets):
            assert np.array_equal(image(server_request.future.result(20)), expected[number])
        here.hooks.step_s = 0.02
        first = here.submit(EditRequest(prompt="", steps=400, seed=0))
        wait_until(lambda: here.service.workers[0].num_running == 1)
        rest = [here.submit(EditRequest(prompt="", steps=4, seed=seed), seed=seed) for seed in range(1, 3)]
        wait_until(lambda: len(here.service.workers[0]._queues.ready) == 2)
        assert here.service.workers[0].num_running == 1
        first.cancel()
        wait_until(lambda: here.service.workers[0].num_running == (2 if admission == "request" else 1))
        assert all(server_request.future.result(20).edits for server_request in rest)


def test_two_lanes_share_the_work(tiny_bundle: Path) -> None:
    with bench(tiny_bundle, slots=1, lanes=2) as here:
        here.hooks.step_s = 0.02
        tickets = [here.submit(REQUESTS[0], seed=0) for _ in range(2)]
        wait_until(lambda: [device.num_running for device in here.service.workers] == [1, 1])
        results = [server_request.future.result(20) for server_request in tickets]
        assert np.array_equal(image(results[0]), image(results[1]))


def test_a_short_request_does_not_wait_for_the_long_ones_before_it(tiny_bundle: Path) -> None:
    order: list[str] = []
    gate = threading.Event()

    def hold(graph: str, inputs: Arrays) -> None:
        if graph == "step":
            assert gate.wait(20)

    with bench(tiny_bundle, slots=1) as here:
        here.submit(EditRequest(prompt="", steps=3, seed=0)).future.result(10)  # now launches are measured
        here.hooks.before = hold
        here.submit(EditRequest(prompt="", steps=2, seed=0))
        wait_until(lambda: here.service.workers[0].num_running == 1)
        names = {"long": 40, "second long": 40, "short": 2}
        for name, steps in names.items():
            server_request = here.submit(EditRequest(prompt="", steps=steps, seed=0))
            server_request.future.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
        # All three wait at the door before the lane moves: only then is their order the schedule's and not a race.
        wait_until(lambda: len(here.service.workers[0]._inbox) == 3)
        gate.set()
        wait_until(lambda: len(order) == 3, 20)
    assert order == ["short", "long", "second long"]


def test_cancel_frees_the_slot_within_one_step(tiny_bundle: Path) -> None:
    running: list[int] = []  # at each launch
    with bench(tiny_bundle, slots=2) as here:
        other = here.submit(EditRequest(prompt="", steps=40, seed=1), seed=1)
        doomed = here.submit(EditRequest(prompt="", steps=200, seed=0))

        def cancel_once(graph: str, inputs: Arrays) -> None:
            if graph == "step":
                running.append(here.service.workers[0].num_running)
                if running[-1] == 2:
                    doomed.cancel()

        here.hooks.before = cancel_once
        assert other.future.result(20).edits
        with pytest.raises(Cancelled):
            doomed.future.result(1)
    assert running.count(2) == 1, running


def test_cancelling_at_a_hundred_random_moments_leaves_nothing_behind(tiny_bundle: Path) -> None:
    generator = random.Random(1)
    with bench(tiny_bundle, slots=3, max_queue=200) as here:
        here.hooks.step_s = 0.002
        tickets = [here.submit(EditRequest(prompt="", steps=20, seed=seed)) for seed in range(100)]
        for server_request in generator.sample(tickets, len(tickets)):
            time.sleep(generator.random() * 0.01)
            server_request.cancel()
        wait_until(lambda: here.service.num_accepted == 0)
        assert (here.service.num_running, here.service.num_waiting, here.service.workers[0].num_running) == (0, 0, 0)
        assert not here.service.editor.lane.steps_done
        here.hooks.step_s = 0.0
        assert np.array_equal(image(here.submit(REQUESTS[0]).future.result(10)), solo_images(tiny_bundle)[0])


def test_a_launch_that_one_member_breaks_costs_the_others_nothing_but_time(tiny_bundle: Path) -> None:
    expected = solo_images(tiny_bundle)

    def break_on_poison(graph: str, inputs: Arrays) -> None:
        if graph == "step" and (inputs["timestep"][inputs["owner"]] == poison).any():
            raise RuntimeError("out of memory")

    with bench(tiny_bundle) as here:
        bad = EditRequest(prompt="", steps=7, seed=0)
        poison = make_plan(bad, here.service.editor.manifest, seed=0, image=0).timestep[3]
        assert all(
            poison not in make_plan(one, here.service.editor.manifest, seed=0, image=0).timestep for one in REQUESTS
        )
        here.hooks.before = break_on_poison
        broken = here.submit(bad, seed=9)
        tickets = [here.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for number, server_request in enumerate(tickets):
            assert np.array_equal(image(server_request.future.result(20)), expected[number]), number
        with pytest.raises(EngineError):
            broken.future.result(20)
        with pytest.raises(InputError, match="broke the engine"):
            here.submit(bad, seed=9)


def test_numbers_that_are_not_finite_fail_their_own_request_alone(tiny_bundle: Path) -> None:
    expected = solo_images(tiny_bundle)
    with bench(tiny_bundle) as here:
        bad = EditRequest(prompt="", steps=7, seed=0)
        poison = make_plan(bad, here.service.editor.manifest, seed=0, image=0).timestep[3]

        def spoil(graph: str, inputs: Arrays) -> None:
            if graph == "step":
                inputs["scene"][inputs["timestep"] == poison] = np.nan

        here.hooks.before = spoil
        broken = here.submit(bad, seed=9)
        tickets = [here.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for number, server_request in enumerate(tickets):
            assert np.array_equal(image(server_request.future.result(20)), expected[number]), number
        with pytest.raises(EngineError, match="not finite"):
            broken.future.result(20)


def test_a_photo_that_cannot_be_encoded_fails_alone(tiny_bundle: Path) -> None:
    is_first = threading.Event()

    def break_first_scene(graph: str, inputs: Arrays) -> None:
        if graph == "scene" and not is_first.is_set():
            is_first.set()
            raise RuntimeError("bad scene")

    with bench(tiny_bundle) as here:
        here.hooks.before = break_first_scene
        first = here.submit(REQUESTS[0], seed=0)
        with pytest.raises(EngineError):
            first.future.result(10)
        assert here.submit(REQUESTS[1], seed=1).future.result(10).edits


def test_a_fatal_fault_fails_everybody_at_once_and_shows_in_the_health(tiny_bundle: Path) -> None:
    def die(graph: str, inputs: Arrays) -> None:
        if graph == "step":
            raise DeviceError("illegal address", "a sound device", "restart", is_fatal=True)

    with bench(tiny_bundle) as here:
        here.hooks.before = die
        tickets = [here.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        for server_request in tickets:
            with pytest.raises(DeviceError):
                server_request.future.result(10)
        assert here.service.failure_reason() == "device_fault"


def test_a_deadline_ends_a_running_request_between_two_steps(tiny_bundle: Path) -> None:
    with bench(tiny_bundle) as here:
        here.hooks.step_s = 0.05
        server_request = here.submit(EditRequest(prompt="", steps=10, seed=0), timeout_s=0.45)
        start = time.monotonic()
        with pytest.raises((DeadlineExceeded, OverloadedError)):
            server_request.future.result(5)
        assert time.monotonic() - start < 5.0


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door(tiny_bundle: Path) -> None:
    with bench(tiny_bundle) as here:
        here.hooks.step_s = 0.05
        here.submit(REQUESTS[0]).future.result(10)  # now launches are measured
        with pytest.raises(OverloadedError) as caught:
            here.submit(EditRequest(prompt="", steps=100, seed=0), timeout_s=1.0)
        assert caught.value.code == "deadline_unreachable"


def test_more_than_the_queue_holds_is_refused_with_a_time_to_come_back(tiny_bundle: Path) -> None:
    with bench(tiny_bundle, slots=1, max_queue=2) as here:
        here.hooks.step_s = 0.05
        for seed in range(3):
            here.submit(EditRequest(prompt="", steps=20, seed=seed))
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            with pytest.raises(OverloadedError) as caught:
                here.submit(REQUESTS[0])
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 0.05
        assert caught.value.code == "queue_full"
        assert 1 <= caught.value.retry_after_s <= 60


def test_drain_refuses_new_requests_and_finishes_old_ones(tiny_bundle: Path) -> None:
    with bench(tiny_bundle, slots=2) as here:
        here.hooks.step_s = 0.01
        tickets = [here.submit(request, seed=seed) for seed, request in enumerate(REQUESTS)]
        here.service.drain()
        with pytest.raises(OverloadedError) as caught:
            here.submit(REQUESTS[0])
        assert caught.value.code == "draining"
        assert all(server_request.future.result(20).edits for server_request in tickets)


def test_steps_go_on_while_others_are_encoded_and_decoded(tiny_bundle: Path) -> None:
    """A long edit takes part in a launch between any two pieces of the work around the lane."""
    log: list[str] = []

    def note(graph: str, outputs: dict[str, Array]) -> None:
        if graph in ("step", "scene", "decode"):
            log.append(graph)

    with bench(tiny_bundle, slots=2, max_queue=100) as here:
        here.hooks.step_s = 0.01
        long = here.submit(EditRequest(prompt="", steps=1000, seed=0))
        wait_until(lambda: here.service.workers[0].num_running == 1)
        here.hooks.after = note

        def slow(graph: str, inputs: Arrays) -> None:
            if graph in ("scene", "decode"):
                # Longer than the launch before it, however slow the machine: one such piece is all that fits between two.
                time.sleep(max(0.03, here.service.workers[0]._last_launch_s))

        here.hooks.before = slow
        others = [here.submit(EditRequest(prompt="", steps=1, seed=seed), seed=seed) for seed in range(1, 9)]
        for server_request in others:
            server_request.future.result(30)
        assert not long.is_over
        long.cancel()
    pieces = [index for index, graph in enumerate(log) if graph != "step"]
    inside = [later - earlier for earlier, later in pairwise(pieces) if "step" in log[later:]]
    assert inside
    assert min(inside) >= 2, log


def test_previews_come_while_the_request_runs(tiny_bundle: Path) -> None:
    seen: list[tuple[int, int]] = []
    with bench(tiny_bundle) as here:
        spec = replace(here.spec(EditRequest(prompt="color: red", steps=12, seed=0)), previews=2)
        spec = replace(spec, on_preview=lambda image, number, photo: seen.append((image, number)))
        here.service.submit(spec).future.result(10)
        wait_until(lambda: len(seen) == 2)
    assert seen == [(0, 0), (0, 1)]
