"""Ten times the server's capacity: accepted requests take little longer, the others are refused at once."""

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
    """Sends requests of mixed steps and guidance in an open loop; records the seconds of served and refused ones."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self._http = httpx.AsyncClient(base_url=url, timeout=120, limits=limits)
        sample = default_bundle_path() / "sample"
        self._files = {
            "image": ("a.png", (sample / "photo.png").read_bytes()),
            "mask": ("m.png", (sample / "mask.png").read_bytes()),
        }
        self.served_s: list[float] = []
        self.refused_s: list[float] = []

    async def send(self, generator: random.Random) -> None:
        """Send a request of random steps and guidance; a refusal must name the seconds to wait."""
        data = {
            "prompt": "color: red",
            "num_inference_steps": str(generator.choice(STEPS)),
            "guidance_scale": generator.choice(GUIDANCE),
        }
        start = time.perf_counter()
        reply = await self._http.post("/v1/images/edits", files=self._files, data=data)
        seconds = time.perf_counter() - start
        if reply.status_code == 200:
            self.served_s.append(seconds)
            return
        assert reply.status_code in (429, 503), reply.text
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert reply.headers["x-should-retry"] == "true"
        self.refused_s.append(seconds)

    async def send_poisson(self, rate: float, seconds: float, generator: random.Random) -> None:
        """Send `rate` requests per second on average, at random times, for so many seconds."""
        tasks, until, due = [], time.perf_counter() + seconds, time.perf_counter()
        while due < until:
            due += generator.expovariate(rate)
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(self.send(generator)))
        await asyncio.gather(*tasks)

    async def measure_capacity(self) -> float:
        """Requests per second with eight clients that wait for their responses."""
        generator, count = random.Random(0), 32
        room = asyncio.Semaphore(8)

        async def send_in_turn() -> None:
            async with room:
                await self.send(generator)

        start = time.perf_counter()
        await asyncio.gather(*(send_in_turn() for _ in range(count)))
        self.served_s.clear()
        return count / (time.perf_counter() - start)


def memory_mb(pid: int) -> float:
    """Resident memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_overload_makes_served_requests_little_slower() -> None:
    async def measure(url: str, pid: int) -> None:
        client, generator = Client(url), random.Random(1)
        capacity = await client.measure_capacity()
        await client.send_poisson(0.8 * capacity, PHASE_S, generator)
        usual, num_refused = np.percentile(client.served_s, 99), len(client.refused_s)
        client.served_s.clear()
        client.refused_s.clear()
        # Until the allocator's pools have their full size: they grew by 10 MB in the first three minutes and not after.
        await client.send_poisson(10 * capacity, 1.5 * PHASE_S, generator)
        before = memory_mb(pid)
        client.served_s.clear()
        client.refused_s.clear()
        await client.send_poisson(10 * capacity, PHASE_S, generator)
        growth = memory_mb(pid) / before - 1
        overloaded, refusal = np.percentile(client.served_s, 99), np.percentile(client.refused_s, [50, 99])
        print(
            f"capacity {capacity:.2f}/s; p99 at 80 % {usual:.2f} s ({num_refused} refused); at 10x: {len(client.served_s)} served, "
            f"p99 {overloaded:.2f} s = {overloaded / usual:.2f}x; {len(client.refused_s)} refused in {refusal * 1000} ms (p50, p99); "
            f"memory {growth:+.1%} of {before:.0f} MB; load average {os.getloadavg()[0]:.1f}"
        )
        assert overloaded <= 1.5 * usual
        assert refusal[0] < 0.05
        assert growth < 0.03

    with running_process() as process:
        asyncio.run(measure(process.url, process.popen.pid))
