"""The service: accepts requests from any thread, limits how many wait, and assigns each to a worker."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from threading import Lock
from typing import Final

from alterbute.editor import Editor
from alterbute.errors import InputError, OverloadedError
from alterbute.serve.scheduler.admission import Admission, priority
from alterbute.serve.scheduler.observer import Observer
from alterbute.serve.scheduler.server_request import RequestSpec, ServerRequest
from alterbute.serve.scheduler.stages import to_project_error
from alterbute.serve.scheduler.worker import Worker, deadline_error

_logger = logging.getLogger(__name__)

_MIN_STUCK_S: Final = 20.0
_QUARANTINE_S: Final = 600.0
_MAX_QUARANTINED: Final = 1000
_RETRY_S: Final = (1, 60)


class Service:
    """Workers behind one bounded queue.

    Args:
        editors: One editor per lane; the service closes them.
        pool: Threads for work that needs no device.
        slots: Images in a lane at most; the editors have at least as many slots.
        max_queue: Images that may wait, in addition to those in the lanes.
        admission: When a waiting image may enter the lane: "step", "request" or "single".
        stretch: Multiple of its own work that a waiting request can be overtaken for; 0 is first come, first served.
        observer: Receives measurements.
    """

    def __init__(
        self,
        editors: Sequence[Editor],
        pool: Executor,
        *,
        slots: int,
        max_queue: int,
        admission: Admission = "step",
        stretch: float = 1.5,
        observer: Observer | None = None,
    ) -> None:
        self._pool, self._stretch = pool, stretch
        self._max_images = max_queue + slots * len(editors)
        self._observer = observer or Observer()
        self._requests: dict[ServerRequest, Worker] = {}
        self._quarantine: OrderedDict[bytes, float] = OrderedDict()
        self._lock = Lock()
        self.is_draining = False
        self.workers = [
            Worker(
                editor,
                pool,
                slots=slots,
                admission=admission,
                stretch=stretch,
                observer=self._observer,
                on_broken=self._put_in_quarantine,
            )
            for editor in editors
        ]

    @property
    def editor(self) -> Editor:
        """An editor of the bundle for checking requests, which is safe from any thread."""
        return self.workers[0].editor

    @property
    def num_waiting(self) -> int:
        """Images of the accepted requests that have not entered a lane."""
        with self._lock:
            return sum(len(request.spec.requests) for request in self._requests if request.started_s is None)

    @property
    def num_running(self) -> int:
        """Requests that have entered a lane and are not over."""
        with self._lock:
            return sum(request.started_s is not None for request in self._requests)

    @property
    def num_accepted(self) -> int:
        """Requests that are not over."""
        return len(self._requests)

    @property
    def is_full(self) -> bool:
        """Whether a request of one image would be refused."""
        return self._num_images() >= self._max_images

    def failure_reason(self) -> str | None:
        """`device_fault` or `device_stuck` when the process should be restarted; None otherwise."""
        for worker in self.workers:
            if worker.fatal is not None:
                return "device_fault"
            if worker.stuck_s > max(_MIN_STUCK_S, 3 * worker.cost.slow_s):
                return "device_stuck"
        return None

    def check_room(self, images: int = 1) -> None:
        """Refuse a request of so many images if there is no room; cheap, and called before its body is read.

        Raises:
            OverloadedError: the queue is full, or the server is about to stop.
        """
        if self.is_draining:
            raise OverloadedError(
                "the server is about to stop", "another server", "try again", retry_after_s=5, code="draining"
            )
        num_images = self._num_images()
        # A request that is larger than the whole queue is accepted when the server is empty.
        if num_images > 0 and num_images + images > self._max_images:
            raise OverloadedError(
                f"{num_images} images are waiting or running",
                f"at most {self._max_images}",
                "try again after Retry-After",
                retry_after_s=self.retry_after_s(),
                code="queue_full",
            )

    def retry_after_s(self) -> int:
        """Seconds until the queue has room: the waiting work at the measured speed, divided by the workers."""
        with self._lock:
            seconds = sum(
                request.rows_left * worker.cost.seconds_per_row() for request, worker in self._requests.items()
            )
        return min(max(math.ceil(seconds / len(self.workers)), _RETRY_S[0]), _RETRY_S[1])

    def estimate_s(self, spec: RequestSpec) -> float:
        """Predicted seconds until a request would be done if it was submitted now: the work before it, and its own."""
        return self._estimate_s(spec, self._pick_worker())

    def submit(self, spec: RequestSpec) -> ServerRequest:
        """Accept a request.

        Raises:
            OverloadedError: there is no room, or its deadline cannot be met.
            InputError: the same content failed a launch before.
        """
        self.check_room(len(spec.requests))
        self._check_quarantine(spec.fingerprint)
        worker = self._pick_worker()
        if time.monotonic() + self._estimate_s(spec, worker) > spec.deadline_s:
            raise deadline_error()
        return self.submit_to(worker, spec)

    def submit_to(self, worker: Worker, spec: RequestSpec) -> ServerRequest:
        """Accept a request for a worker without checking for room or deadline; for warm-up."""
        request = ServerRequest(spec=spec, on_change=worker.wake)
        with self._lock:
            self._requests[request] = worker
        request.future.add_done_callback(lambda _: self._forget(request))
        self._pool.submit(self._prepare_window, request, worker)
        return request

    def drain(self) -> None:
        """Accept no more requests; accepted ones continue."""
        self.is_draining = True

    def cancel_all(self) -> None:
        """End all accepted requests with the error `draining`."""
        with self._lock:
            requests = list(self._requests)
        for request in requests:
            request.fail(_draining_error())
        for worker in self.workers:
            worker.wake()

    def close(self) -> None:
        """Stop the workers and free their engines."""
        self.drain()
        for worker in self.workers:
            worker.close()
            worker.editor.close()

    def _num_images(self) -> int:
        with self._lock:
            return sum(len(request.spec.requests) for request in self._requests)

    def _prepare_window(self, request: ServerRequest, worker: Worker) -> None:
        start = time.perf_counter()
        try:
            if error := request.failure_reason():
                self._observer.on_cancel("deadline" if not request.is_cancelled else "waiting")
                raise error
            spec = request.spec
            prepared = worker.editor.prepare_window(spec.photo, spec.region, spec.reference)
            request.rows_left = spec.rows // spec.windows * len(prepared.windows)
        except Exception as fault:
            request.fail(to_project_error(fault))
            return
        self._observer.on_stage("window", time.perf_counter() - start)
        worker.offer(request, prepared)

    def _pick_worker(self) -> Worker:
        """The worker with the least work left, of those whose device is not broken."""
        with self._lock:
            work = dict.fromkeys(self.workers, 0.0)
            for request, worker in self._requests.items():
                work[worker] += request.rows_left * (worker.cost.seconds_per_row() or 1.0)
        working = [worker for worker in self.workers if worker.fatal is None]
        return min(working or self.workers, key=lambda worker: work[worker])

    def _estimate_s(self, spec: RequestSpec, worker: Worker) -> float:
        now, row_s = time.monotonic(), worker.cost.seconds_per_row()

        def rank(other: RequestSpec, arrived_s: float) -> float:
            return priority(
                arrived_s=arrived_s, deadline_s=other.deadline_s, work_s=other.rows * row_s, stretch=self._stretch
            )

        own_rank = rank(spec, now)
        with self._lock:
            rows_before = sum(
                request.rows_left
                for request, owner in self._requests.items()
                if owner is worker
                and (request.started_s is not None or rank(request.spec, request.arrived_s) <= own_rank)
            )
        own_s = spec.steps * worker.cost.seconds(spec.rows / spec.steps)
        return rows_before * row_s + own_s

    def _forget(self, request: ServerRequest) -> None:
        with self._lock:
            self._requests.pop(request, None)

    def _put_in_quarantine(self, request: ServerRequest) -> None:
        """Refuse the content of a request, which failed a launch while it was alone in it, for ten minutes."""
        with self._lock:
            self._quarantine[request.spec.fingerprint] = time.monotonic()
            while len(self._quarantine) > _MAX_QUARANTINED:
                self._quarantine.popitem(last=False)

    def _check_quarantine(self, fingerprint: bytes) -> None:
        with self._lock:
            since = self._quarantine.get(fingerprint)
            if since is None:
                return
            if time.monotonic() - since > _QUARANTINE_S:
                del self._quarantine[fingerprint]
                return
        raise InputError(
            "this request broke the engine before",
            "another one",
            "change it, or wait ten minutes",
            "image",
            "request_quarantined",
        )


def _draining_error() -> OverloadedError:
    return OverloadedError(
        "the server is about to stop", "another server", "try again", retry_after_s=5, code="draining"
    )
