"""Places for decoding: fairness, order, deadlines and the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from alterbute.errors import OverloadedError
from alterbute.images.photo import Photo
from alterbute.serve.decoding.decoder_pool import DecoderPool
from alterbute.serve.decoding.job_limits import PictureSize

from tests.support.decoders import QUICK

GOOD, SLEEPS = b"picture", b"picture!S"
SMALL = PictureSize(width=64, height=48, bits=8)


def run_in_loop(work: Callable[[DecoderPool], Any], size: int) -> None:
    """Run a coroutine function with a pool of hostile decoders."""

    async def run() -> None:
        pool = DecoderPool(size, 5.0, QUICK)
        try:
            await asyncio.wait_for(work(pool), 30)
        finally:
            pool.close()
            while pool.num_busy:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def decode_on(pool: DecoderPool, data: bytes, owner: str, seconds: float = 60) -> asyncio.Task[Photo]:
    """Start to decode a photo of a client."""
    work = pool.run(
        lambda process: process.decode_photo(data, "photo", SMALL), owner=owner, deadline_s=time.monotonic() + seconds
    )
    return asyncio.ensure_future(work)


def test_one_client_never_holds_all_places() -> None:
    async def work(pool: DecoderPool) -> None:
        hogs = [decode_on(pool, SLEEPS, "hog") for _ in range(5)]
        await asyncio.sleep(0)
        # Two of the three places are taken; those of others are served meanwhile.
        for _ in range(3):
            assert (await decode_on(pool, GOOD, "other")).bits == 8
        assert pool.num_busy == 2
        assert not any(hog.done() for hog in hogs)
        for hog in hogs:
            hog.cancel()
        await asyncio.wait(hogs)
        while pool.num_busy:
            await asyncio.sleep(0.01)

    run_in_loop(work, 3)


def test_places_are_given_in_the_order_of_arrival() -> None:
    async def work(pool: DecoderPool) -> None:
        order: list[int] = []
        first = decode_on(pool, SLEEPS, "a")
        await asyncio.sleep(0)
        tasks = [decode_on(pool, GOOD, "ab"[number % 2]) for number in range(4)]
        for task in tasks:
            task.add_done_callback(lambda done: order.append(tasks.index(done)))
        await asyncio.sleep(0)
        late = decode_on(pool, GOOD, "c", 0.01)
        with pytest.raises(OverloadedError) as caught:
            await late
        assert caught.value.code == "decoders_busy"
        first.cancel()
        await asyncio.wait(tasks)
        assert order == [0, 1, 2, 3]

    run_in_loop(work, 1)


def test_a_deadline_ends_the_process_and_blames_the_server() -> None:
    async def work(pool: DecoderPool) -> None:
        pool.warm_up()
        with pytest.raises(OverloadedError) as caught:
            await decode_on(pool, SLEEPS, "a", 0.2)
        assert caught.value.code == "decoders_busy"
        assert (await decode_on(pool, GOOD, "a")).bits == 8

    run_in_loop(work, 1)


def test_closing_ends_work_and_waiting() -> None:
    async def work(pool: DecoderPool) -> None:
        tasks = [decode_on(pool, SLEEPS, "a") for _ in range(3)]
        await asyncio.sleep(0.05)
        pool.close()
        for task in [*tasks, decode_on(pool, GOOD, "a")]:
            with pytest.raises(OverloadedError) as caught:
                await task
            assert caught.value.code == "draining"

    run_in_loop(work, 2)
