"""Who is on a device, and where: waiting to be encoded, ready, in the lane, or denoised. Only its owner's thread looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from alterbute.denoise.lane import Job, JobResult
from alterbute.images.photo import Bytes
from alterbute.serve.scheduler.server_request import ServerRequest
from alterbute.subject import JobInfo, PreparedPhoto, Subject


@dataclass(slots=True, kw_only=True, eq=False)
class ScheduledRequest:
    """A ticket on a device.

    Args:
        ticket: The ticket.
        sight: Its photo, looked at.
        order: Breaks ties: first come.
        subject: Its photo, encoded.
        frames: What its results tell beside their pictures.
        images: Which image of the ticket a job is.
        is_solo: A launch that it was part of failed: it goes on alone, so that it can break nobody else's.
    """

    request: ServerRequest
    prepared: PreparedPhoto
    order: int
    subject: Subject | None = None
    job_infos: dict[Job, JobInfo] = field(default_factory=dict)
    images: dict[Job, int] = field(default_factory=dict)
    is_solo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preview:
    """A wanted look at a job that is still in the lane: `decode` gives its window."""

    scheduled: ScheduledRequest
    job: Job
    number: int
    decode: Callable[[], Bytes]


@dataclass(slots=True, kw_only=True, eq=False)
class Queues:
    """The places of a device.

    Args:
        key: When a ticket should enter the lane, the smallest first: asked anew each time, as launches are measured.
        encoding: Looked at, not encoded.
        ready: Encoded, waiting for a slot.
        running: In the lane.
        held: Denoised, and kept until their batch ends; only request-level admission has such.
        latents: Denoised, waiting to be decoded.
        previews: Looks that were asked for.
    """

    key: Callable[[ServerRequest], float]
    encoding: list[ScheduledRequest] = field(default_factory=list)
    ready: list[tuple[ScheduledRequest, Job]] = field(default_factory=list)
    running: dict[Job, ScheduledRequest] = field(default_factory=dict)
    held: list[tuple[ScheduledRequest, JobResult]] = field(default_factory=list)
    latents: deque[tuple[ScheduledRequest, JobResult]] = field(default_factory=deque)
    previews: deque[Preview] = field(default_factory=deque)

    def has_work(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.encoding or self.ready or self.running or self.held or self.latents or self.previews)

    def all_requests(self) -> list[ScheduledRequest]:
        """Everybody, each once."""
        return list(dict.fromkeys(self._places()))

    def peek_ready(self) -> tuple[ScheduledRequest, Job]:
        """Who should enter the lane next; `ready` is not empty."""
        return min(self.ready, key=lambda entry: (*self._rank(entry[0]), entry[0].images[entry[1]]))

    def pop_encoding(self, ahead: int) -> ScheduledRequest | None:
        """Who should be encoded next, taken out; None while `ahead` who go before them all are ready."""
        if not self.encoding:
            return None
        scheduled = min(self.encoding, key=self._rank)
        rank = self._rank(scheduled)
        if sum(self._rank(other) < rank for other, _ in self.ready) >= ahead:
            return None
        self.encoding.remove(scheduled)
        return scheduled

    def remove(self, scheduled: ScheduledRequest) -> list[Job]:
        """Take somebody out of every place; the jobs that it had in the lane are returned."""
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
        """A batch has ended: what it finished may be decoded."""
        self.latents.extend(self.held)
        self.held = []

    def _rank(self, scheduled: ScheduledRequest) -> tuple[bool, float, int]:
        return not scheduled.is_solo, self.key(scheduled.request), scheduled.order

    def _places(self) -> Iterator[ScheduledRequest]:
        yield from self.encoding
        yield from (scheduled for scheduled, _ in self.ready)
        yield from self.running.values()
        yield from (scheduled for scheduled, _ in (*self.held, *self.latents))
