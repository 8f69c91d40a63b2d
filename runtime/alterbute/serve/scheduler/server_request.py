"""A request in the scheduler: its specification, its progress and its result.

One request passes through these types:

1. `RequestSpec`: checked and decoded, not yet accepted; `Service.submit` may still refuse it.
2. `ServerRequest`: accepted; the endpoint waits for its `future`, which may fail or be cancelled at any time from here on.
3. `ScheduledRequest` (module `queues`): its window is cut and a worker has it: to encode, ready, in the lane, to decode.
4. `ServerResult`: every image is pasted; it is set on the `future` of the `ServerRequest`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING

from alterbute.errors import AlterbuteError, Cancelled, DeadlineExceeded

if TYPE_CHECKING:
    from alterbute.images import Photo, Region
    from alterbute.images.photo import Bytes
    from alterbute.request import EditRequest
    from alterbute.result import EditResult


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestSpec:
    """The specification of a request: checked values and decoded pictures.

    Args:
        photo: The photo.
        region: The photo's masks.
        reference: Reference photo [H,W,3] uint8 and its mask [H,W] uint8, whose object gives the identity; None is the photo's own.
        requests: The edit of each image, with its own seed.
        rows: UNet rows of all images over all steps: the request's work.
        windows: Number of windows that `rows` counts: one, or one for each of several distant objects.
        steps: Least number of launches that it takes: the steps of one image.
        deadline_s: Time after which the client does not need the result, in `time.monotonic` seconds.
        previews: Number of previews per image at most; those that are not ready when the request ends are not sent.
        on_preview: Called with (image, number, photo) for each preview, from any thread, one call at a time; the numbers of an image rise.
        fingerprint: Hash of its content, for the list of requests that failed a launch.
    """

    photo: Photo
    region: Region
    reference: tuple[Bytes, Bytes] | None
    requests: tuple[EditRequest, ...]
    rows: int
    steps: int
    deadline_s: float
    windows: int = 1
    previews: int = 0
    on_preview: Callable[[int, int, Photo], None] | None = None
    fingerprint: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerResult:
    """A request's images in order; seconds from arrival to the first launch, and from there to the last image."""

    edits: tuple[EditResult, ...]
    queue_s: float
    compute_s: float


@dataclass(slots=True, kw_only=True, eq=False)
class ServerRequest:
    """An accepted request. `future` is set to a `ServerResult` or an `AlterbuteError`, exactly once.

    Its states: waiting while `started_s` is None, running once its first image is in a lane, over when `future` is done.

    Args:
        spec: Its specification.
        on_change: Called after `cancel`, to wake the worker.
        future: Its outcome.
        arrived_s: Time of acceptance in `time.monotonic` seconds.
        started_s: Time at which its first image entered a lane; None before.
        rows_left: UNet rows that are still to be run, of all images.
    """

    spec: RequestSpec
    on_change: Callable[[], None] = lambda: None
    future: Future[ServerResult] = field(default_factory=Future)
    arrived_s: float = field(default_factory=lambda: time.monotonic())
    started_s: float | None = None
    rows_left: int = 0
    _edits: dict[int, EditResult] = field(default_factory=dict)
    _cancel: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.rows_left = self.spec.rows

    def cancel(self) -> None:
        """Cancel the request: its slots are free before the next launch."""
        self._cancel.set()
        self.on_change()

    @property
    def is_cancelled(self) -> bool:
        """Whether the request was cancelled."""
        return self._cancel.is_set()

    @property
    def is_over(self) -> bool:
        """Whether the request has a result or an error."""
        return self.future.done()

    def failure_reason(self) -> AlterbuteError | None:
        """The error that must end the request now, because it was cancelled or its deadline has passed; None otherwise."""
        if self._cancel.is_set():
            return Cancelled("the request was cancelled", "a client that waits", "ask for it again")
        if time.monotonic() > self.spec.deadline_s:
            return DeadlineExceeded(
                "the request's deadline has passed",
                "an edit within it",
                "ask again with fewer steps or a longer timeout_s",
            )
        return None

    def add_image(self, image: int, edit: EditResult) -> None:
        """Add the finished image with index `image`; the last one sets the result."""
        with self._lock:
            self._edits[image] = edit
            is_complete = len(self._edits) == len(self.spec.requests)
        if is_complete:
            now, started = time.monotonic(), self.started_s or self.arrived_s
            edits = tuple(self._edits[number] for number in range(len(self._edits)))
            self._settle(
                lambda: self.future.set_result(
                    ServerResult(edits=edits, queue_s=started - self.arrived_s, compute_s=now - started)
                )
            )

    def fail(self, fault: AlterbuteError) -> None:
        """End the request with an error, unless it is over already."""
        self._settle(lambda: self.future.set_exception(fault))

    def _settle(self, set_outcome: Callable[[], None]) -> None:
        with self._lock:
            if self.future.done():
                return
        # Callbacks of the future run here, without the lock. Of two threads that arrive here at once, the second one's call fails.
        try:
            set_outcome()
        except Exception:
            if not self.future.done():
                raise
