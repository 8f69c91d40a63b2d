"""A server in a thread of the test process, with a backend that tests can slow down or break."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from alterbute.backends import Array, Arrays, Backend, open_backend
from alterbute.bundle import open_bundle
from alterbute.serve.context import Context, make_context
from alterbute.serve.process import make_server
from alterbute.serve.settings import ServerSettings
from alterbute.serve.warmup import warm_up
from PIL import Image

from tests.support.pictures import noise, to_bytes

SIZE = (48, 64)


@dataclass(slots=True)
class Hooks:
    """Delay and callbacks around the backend's runs, and (slots, rows) of the step launches."""

    step_s: float = 0.0
    before: Callable[[str, Arrays], None] = lambda graph, inputs: None
    after: Callable[[str, dict[str, Array]], None] = lambda graph, outputs: None
    launches: list[tuple[int, int]] = field(default_factory=list)


class HookedBackend:
    """A real backend with `Hooks` around its runs."""

    def __init__(self, inner: Backend, hooks: Hooks) -> None:
        self.min_slots, self.min_rows = inner.min_slots, inner.min_rows
        self.precisions = inner.precisions
        self._inner, self._hooks = inner, hooks

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        self._hooks.before(graph, inputs)
        if graph == "step":
            time.sleep(self._hooks.step_s)
            self._hooks.launches.append(inputs["guidance"].shape)
        results = self._inner.run(graph, inputs, outputs)
        self._hooks.after(graph, results)
        return results

    def close(self) -> None:
        self._inner.close()


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server, its context and its backends' hooks."""

    url: str
    port: int
    context: Context
    hooks: Hooks


@contextmanager
def serving(bundle: Path, **settings: Any) -> Iterator[RunningServer]:
    """A server that listens on a free port until the block ends."""
    hooks = Hooks()
    server_settings = ServerSettings(**{"bundle": str(bundle), "port": 0, "timeout_s": 30, **settings})
    opened = open_bundle(bundle)
    context = make_context(
        server_settings,
        [HookedBackend(open_backend("onnxruntime", opened, threads=1), hooks) for _ in range(server_settings.lanes)],
    )
    warm_up(context)
    context.is_ready = True
    hooks.launches.clear()
    server = make_server(context)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield RunningServer(f"http://127.0.0.1:{port}", port, context, hooks)
    finally:
        hooks.step_s = 0.0
        server.should_exit = True
        thread.join(10)
        context.close()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.005)


@contextmanager
def holding_launches(hooks: Hooks) -> Iterator[None]:
    """Hold every step launch until the block ends."""
    gate = threading.Event()

    def hold(graph: str, inputs: Arrays) -> None:
        assert graph != "step" or gate.wait(20)

    hooks.before = hold
    try:
        yield
    finally:
        gate.set()
        hooks.before = lambda graph, inputs: None


@contextmanager
def holding_last_launch(hooks: Hooks, steps: int, condition: Callable[[], bool]) -> Iterator[None]:
    """Hold the last of the next `steps` launches until a condition holds: what is ready before it is then sent before the result."""
    last = len(hooks.launches) + steps - 1

    def hold(graph: str, inputs: Arrays) -> None:
        if graph == "step" and len(hooks.launches) == last:
            wait_until(condition)

    hooks.before = hold
    try:
        yield
    finally:
        hooks.before = lambda graph, inputs: None


def photo_bytes(seed: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    """A PNG of noise."""
    return to_bytes(noise(*size, seed=seed))


def mask_bytes(size: tuple[int, int] = SIZE) -> bytes:
    """A PNG with a white rectangle on black."""
    return to_bytes(Image.fromarray(mask_array(size)))


def mask_array(size: tuple[int, int] = SIZE) -> Array:
    """A mask [H,W] uint8 that is 255 in a rectangle."""
    mask = np.zeros(size, np.uint8)
    mask[16:32, 24:44] = 255
    return mask


def edit_files(seed: int = 0) -> dict[str, tuple[str, bytes]]:
    """Files of a multipart edit request, in httpx's form."""
    return {"image": ("photo.png", photo_bytes(seed)), "mask": ("mask.png", mask_bytes())}
