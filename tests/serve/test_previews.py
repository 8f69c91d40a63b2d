"""Previews of the scheduler: each number of an image once, in rising order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from alterbute.backends import Arrays
from alterbute.errors import DeviceError
from alterbute.request import EditRequest
from alterbute.serve.scheduler.server_request import RequestSpec

from tests.support.scheduling import HookedService, open_service
from tests.support.serving import holding_last_launch, wait_until


class ReversingPool(ThreadPoolExecutor):
    """A thread that runs the first task at once, the next `count` in reverse order when all of them have come, and later ones at once."""

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self._count, self._tasks = count, list[Callable[[], Any]]()

    def submit(self, task: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        self._tasks.append(lambda: task(*args, **options))
        if 1 < len(self._tasks) <= self._count:
            return Future()
        for held in self._tasks[:0:-1] if len(self._tasks) == self._count + 1 else self._tasks[-1:]:
            future = super().submit(held)
        return future


def preview_spec(hooked: HookedService, sent: list[tuple[int, int]], previews: int, images: int = 1) -> RequestSpec:
    """A request of images of 12 steps that appends (image, number) of each preview to `sent`."""
    requests = [EditRequest(prompt="color: red", steps=12, seed=seed) for seed in range(images)]
    return replace(
        hooked.spec(*requests),
        previews=previews,
        on_preview=lambda image, number, photo: sent.append((image, number)),
    )


def test_previews_are_sent_in_order(tiny_bundle: Path) -> None:
    sent: list[tuple[int, int]] = []
    with open_service(tiny_bundle) as hooked, holding_last_launch(hooked.hooks, 12, lambda: len(sent) == 2):
        hooked.service.submit(preview_spec(hooked, sent, previews=2)).future.result(20)
    assert sent == [(0, 0), (0, 1)]


def test_a_preview_is_not_overtaken_on_another_thread(tiny_bundle: Path) -> None:
    sent: list[tuple[int, int]] = []
    with (
        open_service(tiny_bundle, pool=ReversingPool(4)) as hooked,
        holding_last_launch(hooked.hooks, 12, lambda: len(sent) == 4),
    ):
        hooked.service.submit(preview_spec(hooked, sent, previews=4)).future.result(20)
    assert sent == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_an_image_that_runs_again_sends_no_preview_twice(tiny_bundle: Path) -> None:
    sent: list[tuple[int, int]] = []
    with open_service(tiny_bundle) as hooked:
        fail_once = iter([True])

        def break_launch(graph: str, inputs: Arrays) -> None:
            if graph == "step" and len(hooked.hooks.launches) == 8 and next(fail_once, False):
                wait_until(lambda: bool(sent))
                raise DeviceError("the launch failed", "a launch", "try again", is_fatal=False)

        hooked.hooks.before = break_launch
        hooked.service.submit(preview_spec(hooked, sent, previews=4, images=2)).future.result(20)
        assert next(fail_once, None) is None, "no launch failed"
    for image in range(2):
        numbers = [number for owner, number in sent if owner == image]
        assert numbers == sorted(set(numbers))
