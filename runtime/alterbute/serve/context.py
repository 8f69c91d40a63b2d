"""The parts that all routes share: the service, its limits, and threads for blocking work."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from alterbute.backends import BackendChoice, choose_backend
from alterbute.bundle import Bundle, default_bundle_path, open_bundle, read_trust_keys
from alterbute.serve.decoding.decoder_pool import DecoderPool
from alterbute.serve.http.auth import Keyring, open_keyring
from alterbute.serve.http.limits import MemoryBudget, RateLimit
from alterbute.serve.metrics import Metrics
from alterbute.serve.scheduler.service import Service

if TYPE_CHECKING:
    from alterbute.backends import Backend
    from alterbute.serve.settings import ServerSettings

T = TypeVar("T")


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """A running server's parts.

    Args:
        settings: The server's settings.
        service: The scheduler and its workers.
        keyring: API keys that are accepted.
        metrics: Prometheus metrics.
        memory: Budget of memory for bodies and pictures.
        rate: Rate limit per API key.
        pool: Threads for reading bodies and headers, encoding files, cutting windows and pasting.
        decoders: Processes for decoding pictures, which can be ended when a hostile file keeps one busy.
        model: The bundle's name.
        backend: Name of the backend; names joined by "+" where lanes have different ones.
        device: Names of the lanes' devices, such as `NVIDIA L4` or `cpu`; empty for backends that were given.
        bundle_sha256: SHA-256 of the manifest, which holds those of all files.
        precision: Type in which the backend runs the step graph: `fp32`, `fp16`, `bf16` or `int8`.
        started: Start time in Unix seconds.
        is_ready: Whether warm-up has finished.
        is_stopping: Whether the server will stop soon; it still accepts requests, until load balancers notice.
        num_open: Requests whose response is not sent completely.
    """

    settings: ServerSettings
    service: Service
    keyring: Keyring
    metrics: Metrics
    memory: MemoryBudget
    rate: RateLimit
    pool: ThreadPoolExecutor
    decoders: DecoderPool
    model: str
    backend: str
    device: str
    bundle_sha256: str
    precision: str
    started: int = field(default_factory=lambda: int(time.time()))
    is_ready: bool = False
    is_stopping: bool = False
    num_open: int = 0

    async def run_on_pool(self, work: Callable[[], T]) -> T:
        """Run blocking work on a thread of `pool`."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def close(self) -> None:
        """End the decoders, stop every thread and free the engines."""
        self.decoders.close()
        self.service.close()
        self.pool.shutdown(wait=True, cancel_futures=True)


def make_context(settings: ServerSettings, backends: Sequence[Backend] | None = None) -> Context:
    """Open the bundle, its backends, the service and the limits that the settings specify.

    Args:
        settings: The settings.
        backends: Open backends of the bundle, one per lane, instead of those that the settings name.

    Raises:
        BundleError: the bundle is missing or damaged.
        InputError: a setting cannot be fulfilled on this machine.
        EngineError: the backend is not installed.
    """
    from alterbute.editor import Editor

    keyring = open_keyring(settings.api_key, settings.api_key_file)
    trusted = None if settings.trust_key is None else read_trust_keys([settings.trust_key])
    bundle = open_bundle(Path(settings.bundle) if settings.bundle else default_bundle_path(), trust_keys=trusted)
    manifest = bundle.manifest
    sha256 = bundle.sha256
    cpus = os.cpu_count() or 1
    pool = ThreadPoolExecutor(max(2, cpus), "alterbute-pool")
    choices = [] if backends else [_open_backend(settings, bundle, lane) for lane in range(settings.lanes)]
    editors = [
        Editor(bundle, backend=backend, slots=settings.slots)
        for backend in backends or [choice.backend for choice in choices]
    ]
    backend_name = "+".join(dict.fromkeys(choice.name for choice in choices)) or "given"
    precision = editors[0].precision
    metrics = Metrics(model=manifest.name, sha256=sha256, backend=backend_name, precision=precision)
    service = Service(
        editors, pool, slots=settings.slots, max_queue=settings.max_queue, stretch=settings.stretch, observer=metrics
    )
    memory = MemoryBudget(int(settings.memory_mb * 2**20), settings.memory_share)
    metrics.watch(
        running=lambda: service.num_running, waiting=lambda: service.num_waiting, memory_bytes=lambda: memory.used_bytes
    )
    return Context(
        settings=settings,
        service=service,
        keyring=keyring,
        metrics=metrics,
        memory=memory,
        rate=RateLimit(settings.rate, settings.rate_burst),
        pool=pool,
        decoders=DecoderPool(settings.decoders or cpus + 1, settings.decode_timeout_s),
        model=manifest.name,
        backend=backend_name,
        device="+".join(dict.fromkeys(choice.device for choice in choices)),
        bundle_sha256=sha256,
        precision=precision,
    )


def _open_backend(settings: ServerSettings, bundle: Bundle, lane: int) -> BackendChoice:
    """Open the backend of a lane: on the GPU with the lane's number, or on the CPU."""
    return choose_backend(
        settings.backend,
        bundle,
        threads=settings.threads,
        allow_unsigned=settings.allow_unsigned,
        device=lane,
        exact=settings.exact,
    )
