"""Files and bodies that cost much to read, while others are served, and while the server stops."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import signal
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.bombs import Bomb, bombs
from tests.support.decoders import list_children
from tests.support.process import Process, running_process
from tests.support.serving import edit_files, wait_until

NUM_BOMBS = 60
ROUNDS = 3
ATTACKERS = 3
USUAL_S = 20.0
# The command, with a line in its log for each stop of the event loop of 50 ms and more, beside the time of its end.
WATCHED = """
    import asyncio, json, sys, time
    from alterbute.cli import main
    from alterbute.serve import process

    serve = process._serve

    async def watch():
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if now - before > 0.06:
                print(json.dumps({"message": "stop", "seconds": now - before - 0.01, "at": now}), file=sys.stderr, flush=True)
            before = now

    async def serve_watched(*arguments):
        watching = asyncio.ensure_future(watch())
        try:
            return await serve(*arguments)
        finally:
            watching.cancel()

    process._serve = serve_watched
    raise SystemExit(main())
"""


@dataclass(slots=True)
class Load:
    """Requests of one client in turn, their seconds, and the largest memory of the server and its decoders in MiB."""

    process: Process
    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Send, and watch the memory, until the block ends."""
        threads = [threading.Thread(target=self._send), threading.Thread(target=self._watch)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _send(self) -> None:
        headers = {"authorization": "Bearer good-key"}
        with httpx.Client(base_url=self.process.url, headers=headers, timeout=60) as client:
            while not self._stop.is_set():
                start = time.monotonic()
                form = {"prompt": "color: red", "num_inference_steps": "2"}
                reply = client.post("/v1/images/edits", files=edit_files(), data=form)
                assert reply.status_code == 200, reply.text
                self.seconds.append(time.monotonic() - start)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.peak_mb = max(self.peak_mb, tree_memory_mb(self.process.popen.pid))
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The response to a bomb: its status, 0 for a closed connection, the end of its text, and the times in monotonic seconds."""

    name: str
    start_s: float
    end_s: float
    status: int
    text: str


def tree_memory_mb(pid: int) -> float:
    """Resident memory of a process and of its children in MiB."""
    pages = 0
    for number in (pid, *list_children(pid)):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def has_decoders(pid: int) -> bool:
    """Whether a server has started a second decoder, which it does for its first picture."""
    return len(list_children(pid)) >= 2


def send_bomb(url: str, model: str, bomb: Bomb) -> httpx.Response:
    """Send a bomb with the attackers' key."""
    with httpx.Client(headers={"authorization": "Bearer bad-key"}, timeout=120) as client:
        if bomb.files:
            return client.post(url + bomb.path, files=bomb.files, data={"prompt": "a", "num_inference_steps": "1"})
        headers = {"content-type": bomb.content_type}
        return client.post(url + bomb.path.format(model=model), content=bomb.body, headers=headers)


def write_keys(folder: Path) -> Path:
    """A file of two keys."""
    lines = [f"{hashlib.sha256(key).hexdigest()} {key.decode()}" for key in (b"good-key", b"bad-key")]
    path = folder / "keys.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_bombs_do_not_delay_others(tiny_bundle: Path, tmp_path: Path) -> None:
    flags = ("--api-key-file", str(write_keys(tmp_path)), "--max-queue", "16", str(tiny_bundle))
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running_process(*flags, program=("-c", textwrap.dedent(WATCHED))))
        model = process.wait_for("listening")["model"]
        usual = Load(process)
        with usual.running():
            time.sleep(USUAL_S)
        # From a process of their own: making a body of 60 MB in this one would delay the client whose requests are timed.
        attackers = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        for is_large in (False, True):
            attackers.submit(count_bombs, is_large).result()
            attack_at, attacked = time.monotonic(), Load(process)
            with attacked.running():
                outcomes = attackers.submit(attack_with, is_large, process.url, model).result()
            stops = [(line["at"], line["seconds"]) for line in process.lines if line.get("message") == "stop"]
            describe(outcomes, [stop for stop in stops if stop[0] > attack_at])
            p99 = [float(np.percentile(load.seconds, 99)) for load in (usual, attacked)]
            longest = [
                max((seconds for at, seconds in stops if (at > attack_at) == is_attack), default=0.0)
                for is_attack in (False, True)
            ]
            print(
                f"{len(outcomes)} {'large' if is_large else 'small'} bombs; {len(usual.seconds)} and {len(attacked.seconds)} edits; "
                f"p99 {p99[0]:.2f} -> {p99[1]:.2f} s; longest stop of the loop {longest[0]:.2f} -> {longest[1]:.2f} s; "
                f"memory {usual.peak_mb:.0f} -> {attacked.peak_mb:.0f} MiB, {tree_memory_mb(process.popen.pid):.0f} at the end; "
                f"load average {os.getloadavg()[0]:.1f}"
            )
            # 200 is a picture that is sound; 0 a connection that the server has closed.
            assert not [outcome for outcome in outcomes if outcome.status not in (0, 200, 503, *range(400, 500))]
            assert p99[1] - p99[0] <= 0.5
            assert longest[1] <= 0.2
            if not is_large:
                assert len(outcomes) >= NUM_BOMBS
                assert attacked.peak_mb - usual.peak_mb <= 300


@cache
def make_bombs(is_large: bool) -> tuple[Bomb, ...]:
    """The bombs of many pixels, or the others; made once in a process."""
    return tuple(bomb for bomb in bombs() if bomb.is_large == is_large)


def count_bombs(is_large: bool) -> int:
    """Make them, so that they are ready."""
    return len(make_bombs(is_large))


def attack_with(is_large: bool, url: str, model: str) -> list[Outcome]:
    """Send all bombs from a few clients; returns the seconds, name, status and code of each."""
    outcomes: list[Outcome] = []
    waiting = list(make_bombs(is_large)) * (1 if is_large else ROUNDS)

    def attack() -> None:
        while waiting:
            with contextlib.suppress(IndexError):
                bomb, start = waiting.pop(), time.monotonic()
                try:
                    reply = send_bomb(url, model, bomb)
                    status, text = reply.status_code, reply.text
                except httpx.TransportError as fault:  # refused before the body was read to its end
                    status, text = 0, type(fault).__name__
                outcomes.append(Outcome(bomb.name, start, time.monotonic(), status, text[-60:]))

    attackers = [threading.Thread(target=attack) for _ in range(ATTACKERS)]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.join()
    return outcomes


def describe(outcomes: list[Outcome], stops: list[tuple[float, float]]) -> None:
    """Print the statuses, the slowest, and the bombs that were there at the longest stops (time of the end, seconds) of the loop."""
    print(dict(Counter(outcome.status for outcome in outcomes)))
    for outcome in sorted(outcomes, key=lambda outcome: outcome.start_s - outcome.end_s)[:8]:
        seconds = outcome.end_s - outcome.start_s
        print(f"{seconds:6.2f} s  {outcome.status}  {outcome.name}  {outcome.text}")
    for at, seconds in sorted(stops, key=lambda stop: -stop[1])[:4]:
        names = [outcome.name for outcome in outcomes if outcome.start_s < at and outcome.end_s > at - seconds]
        print(f"a stop of {seconds:.2f} s beside {', '.join(names)}")


@pytest.mark.slow
def test_sigterm_while_bombs_decode_exits_with_0(tiny_bundle: Path, tmp_path: Path) -> None:
    keys, generator = write_keys(tmp_path), random.Random(5)
    sent = [bomb for bomb in bombs() if bomb.files and ("0x" in bomb.name or "flat" in bomb.name)]
    flags = ("--api-key-file", str(keys), "--drain-delay-s", "0", "--drain-timeout-s", "1", str(tiny_bundle))
    codes, durations = [], []
    for round_number in range(20):
        with running_process(*flags) as process:
            is_over = threading.Event()
            url, order = process.url, itertools.cycle(generator.sample(sent, len(sent)))

            def attack(url: str, order: Iterator[Bomb], is_over: threading.Event) -> None:
                while not is_over.is_set():
                    with contextlib.suppress(httpx.TransportError):
                        send_bomb(url, "", next(order))

            attackers = [threading.Thread(target=attack, args=(url, order, is_over)) for _ in range(ATTACKERS)]
            for attacker in attackers:
                attacker.start()
            wait_until(partial(has_decoders, process.popen.pid), 60)
            time.sleep(generator.random() * 2)
            children = list_children(process.popen.pid)
            start = time.monotonic()
            process.popen.send_signal(signal.SIGTERM)
            if round_number % 2:
                time.sleep(generator.random())
                process.popen.send_signal(signal.SIGTERM)
            codes.append(process.popen.wait(60))
            durations.append(time.monotonic() - start)
            is_over.set()
            for attacker in attackers:
                attacker.join()
            assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    print(f"exit codes {codes}; seconds {min(durations):.1f} to {max(durations):.1f}")
    assert codes == [0] * 20
    # One second of draining, one and a half until connections are cut, and the end of the interpreter on a busy machine.
    assert max(durations) < 8
