"""The scheduler without a server, on hooked backends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from alterbute import Editor
from alterbute.backends import open_backend
from alterbute.bundle import open_bundle
from alterbute.denoise.plan import make_plan
from alterbute.images import load_photo, load_region
from alterbute.request import EditRequest
from alterbute.serve.scheduler.admission import Admission
from alterbute.serve.scheduler.server_request import RequestSpec, ServerRequest
from alterbute.serve.scheduler.service import Service

from tests.support.pictures import noise
from tests.support.serving import HookedBackend, Hooks, mask_array


class HookedService:
    """A service on hooked backends, with helpers that make and submit requests."""

    def __init__(self, service: Service, hooks: Hooks) -> None:
        self.service, self.hooks = service, hooks

    def spec(self, *requests: EditRequest, seed: int = 0, timeout_s: float = 30.0) -> RequestSpec:
        """Make the specification of a request whose photo is noise of this seed."""
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
        """Submit a request whose photo is noise of this seed."""
        return self.service.submit(self.spec(*requests, seed=seed, timeout_s=timeout_s))


@contextmanager
def open_service(
    bundle: Path,
    *,
    slots: int = 4,
    max_queue: int = 16,
    lanes: int = 1,
    admission: Admission = "step",
    pool: Executor | None = None,
) -> Iterator[HookedService]:
    """A service on the tiny bundle until the block ends; lanes share the hooks."""
    hooks, opened = Hooks(), open_bundle(bundle)
    editors = [
        Editor(opened, backend=HookedBackend(open_backend("onnxruntime", opened, threads=1), hooks), slots=slots)
        for _ in range(lanes)
    ]
    with pool or ThreadPoolExecutor(2) as threads:
        service = Service(editors, threads, slots=slots, max_queue=max_queue, admission=admission)
        yield HookedService(service, hooks)
        hooks.step_s = 0.0
        hooks.before = lambda graph, inputs: None
        service.close()
