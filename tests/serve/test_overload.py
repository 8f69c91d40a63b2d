"""Ten times what the server can do, for two minutes: those it takes are served as ever, the others hear so at once."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from alterbute.bundle import default_bundle_path

from tests.support.process import running_process

PHASE_S = 120.0
STEPS = (8, 20, 40)
GUIDANCE = ("1.0", "1.5")


class Client:
    """Open-loop requests of mixed steps and guidance."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self._http = httpx.AsyncClient(base_url=url, timeout=120, limits=limits)
        sample = default_bundle_path() / "sample"
        self._files = {
            "image": ("a.png", (sample / "photo.png").read_bytes()),
            "mask": ("m.png", (sample / "mask.png").read_bytes()),
        }
        self.served: list[float] = []
        self.refused: list[float] = []

    async def send(self, generator: random.Random) -> None:
        data = {
            "prompt": "color: red",
            "num_inference_steps": str(generator.choice(STEPS)),
            "guidance_scale": generator.choice(GUIDANCE),
        }
        start = time.perf_counter()
        reply = await self._http.post("/v1/images/edits", files=self._files, data=data)
        seconds = time.perf_counter() - start
        if reply.status_code == 200:
            self.served.append(seconds)
            return
        assert reply.status_code in (429, 503), reply.text
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert reply.headers["x-should-retry"] == "true"
        self.refused.append(seconds)

    async def play(self, rate: float, seconds: float, generator: random.Random) -> None:
        tasks, until, due = [], time.perf_counter() + seconds, time.perf_counter()
        while due < until:
            due += generator.expovariate(rate)
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(self.send(generator)))
        await asyncio.gather(*tasks)

    async def capacity(self) -> float:
        """Requests per second with eight clients that wait for their answers."""
        generator, count = random.Random(0), 32
        room = asyncio.Semaphore(8)

        async def one() -> None:
            async with room:
                await self.send(generator)

        start = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        self.served.clear()
        return count / (time.perf_counter() - start)


def memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_overload_changes_little_for_those_who_are_served() -> None:
    async def measure(url: str, pid: int) -> None:
        client, generator = Client(url), random.Random(1)
        capacity = await client.capacity()
        await client.play(0.8 * capacity, PHASE_S, generator)
        usual, refused_usually = np.percentile(client.served, 99), len(client.refused)
        client.served.clear()
        client.refused.clear()
        # Until the allocator's pools have their size: measured, 10 MB in the first three minutes and none after.
        await client.play(10 * capacity, 1.5 * PHASE_S, generator)
        before = memory_mb(pid)
        client.served.clear()
        client.refused.clear()
        await client.play(10 * capacity, PHASE_S, generator)
        growth = memory_mb(pid) / before - 1
        overloaded, refusal = np.percentile(client.served, 99), np.percentile(client.refused, [50, 99])
        print(
            f"capacity {capacity:.2f}/s; p99 at 80 % {usual:.2f} s ({refused_usually} refused); at 10x: {len(client.served)} served, "
            f"p99 {overloaded:.2f} s = {overloaded / usual:.2f}x; {len(client.refused)} refused in {refusal * 1000} ms (p50, p99); "
            f"memory {growth:+.1%} of {before:.0f} MB; load average {os.getloadavg()[0]:.1f}"
        )
        assert overloaded <= 1.5 * usual
        assert refusal[0] < 0.05
        assert growth < 0.03

    with running_process() as process:
        asyncio.run(measure(process.url, process.popen.pid))
