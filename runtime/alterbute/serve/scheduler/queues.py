"""The queues of a worker: requests to encode, images ready for the lane, in it, and denoised. Used by its thread only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from alterbute.denoise.lane import Job, JobResult
from alterbute.image_jobs import ImageParts, JobInfo
from alterbute.images.photo import Bytes
from alterbute.serve.scheduler.server_request import ServerRequest
from alterbute.subject import PreparedPhoto, Subject


@dataclass(slots=True, kw_only=True, eq=False)
class ScheduledRequest:
    """A request on a worker, from the moment when its window is cut (see `server_request` for the states before and after).

    Args:
        request: The request.
        prepared: Its photo with the window cut out.
        order: Order of arrival; breaks ties of priority.
        subject: Its encoded photo; None before it is encoded.
        jobs: Its jobs, one per image and window, with what is known of each; empty before the photo is encoded.
        images: The windows of each image that are pasted; empty before the photo is encoded.
        roundtrips: [S,S,3] uint8 by window, the decoded round trips of the photo's windows; None for a window that needs none.
        decoded_previews: Its decoded previews with their windows [S,S,3] uint8, in the order in which they are to be sent.
        preview_lock: Held while one of them is pasted and sent, so that a later one cannot overtake it on another thread.
        is_solo: Whether its images run alone in the lane, because a launch that they were part of failed.
    """

    request: ServerRequest
    prepared: PreparedPhoto
    order: int
    subject: Subject | None = None
    jobs: dict[Job, JobInfo] = field(default_factory=dict)
    images: list[ImageParts] = field(default_factory=list)
    roundtrips: dict[int, Bytes | None] = field(default_factory=dict)
    decoded_previews: deque[tuple[Preview, Bytes]] = field(default_factory=deque)
    preview_lock: Lock = field(default_factory=Lock)
    is_solo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """A preview of a job that is still in the lane; `decode` returns its window [S,S,3] uint8."""

    scheduled: ScheduledRequest
    job: Job
    number: int
    decode: Callable[[], Bytes]


@dataclass(slots=True, kw_only=True, eq=False)
class Queues:
    """The queues of a worker, in the order in which a request passes them.

    Args:
        key: Priority of a request, the smallest first; computed at each use, because it follows measured launch times.
        encoding: Requests whose window is cut, waiting to be encoded.
        ready: Encoded jobs, waiting for a slot.
        running: Jobs in the lane.
        held: Denoised images that wait for the end of their batch; only with request-level admission.
        latents: Denoised images, waiting to be decoded.
        previews: Previews, waiting to be decoded.
    """

    key: Callable[[ServerRequest], float]
    encoding: list[ScheduledRequest] = field(default_factory=list)
    ready: list[tuple[ScheduledRequest, Job]] = field(default_factory=list)
    running: dict[Job, ScheduledRequest] = field(default_factory=dict)
    held: list[tuple[ScheduledRequest, JobResult]] = field(default_factory=list)
    latents: deque[tuple[ScheduledRequest, JobResult]] = field(default_factory=deque)
    previews: deque[Preview] = field(default_factory=deque)

    def has_work(self) -> bool:
        """Whether any queue holds work."""
        return bool(self.encoding or self.ready or self.running or self.held or self.latents or self.previews)

    def all_requests(self) -> list[ScheduledRequest]:
        """All requests of the worker, each once."""
        return list(dict.fromkeys(self._iterate_requests()))

    def peek_ready(self) -> tuple[ScheduledRequest, Job]:
        """The job that should enter the lane next; `ready` is not empty. It stays in the queue."""
        return min(self.ready, key=lambda entry: (*self._rank(entry[0]), entry[0].jobs[entry[1]].image))

    def pop_encoding(self, ahead: int) -> ScheduledRequest | None:
        """Take out the request that should be encoded next; None while `ahead` ready jobs go before it."""
        if not self.encoding:
            return None
        scheduled = min(self.encoding, key=self._rank)
        rank = self._rank(scheduled)
        if sum(self._rank(other) < rank for other, _ in self.ready) >= ahead:
            return None
        self.encoding.remove(scheduled)
        return scheduled

    def remove(self, scheduled: ScheduledRequest) -> list[Job]:
        """Remove a request from all queues; returns its jobs that are in the lane."""
        jobs = [job for job, owner in self.running.items() if owner is scheduled]
        for job in jobs:
            del self.running[job]
        self.encoding = [other for other in self.encoding if other is not scheduled]
        self.ready = [entry for entry in self.ready if entry[0] is not scheduled]
        self.held = [entry for entry in self.held if entry[0] is not scheduled]
        self.latents = deque(entry for entry in self.latents if entry[0] is not scheduled)
        self.previews = deque(preview for preview in self.previews if preview.scheduled is not scheduled)
        return jobs

    def release_held(self) -> None:
        """Queue the held images of a batch that has ended for decoding."""
        self.latents.extend(self.held)
        self.held = []

    def _rank(self, scheduled: ScheduledRequest) -> tuple[bool, float, int]:
        """Sort key, smallest first: requests that run alone, then priority, then order of arrival."""
        return not scheduled.is_solo, self.key(scheduled.request), scheduled.order

    def _iterate_requests(self) -> Iterator[ScheduledRequest]:
        """The requests of all queues; one with several images comes several times."""
        yield from self.encoding
        yield from (scheduled for scheduled, _ in self.ready)
        yield from self.running.values()
        yield from (scheduled for scheduled, _ in (*self.held, *self.latents))
