"""The lane: the slots of one device and the loop over them (admit, launch, retire), also known as continuous batching.

A slot holds one image. Every input of the step graph is per slot or per row, so images at different steps, with
different solvers and guidance, share a launch, and an image that joins or leaves does not change the others. Images of
different resolutions share the lane, but not a launch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from alterbute.backends import Array, Backend
from alterbute.bundle import Manifest
from alterbute.denoise.job import Conditioning, Job, JobResult
from alterbute.denoise.slots import Slots
from alterbute.errors import Cancelled
from alterbute.request import CancelCheck

__all__ = ["Conditioning", "Job", "JobResult", "Lane"]


class Lane:
    """Slots on one backend; used by one thread at a time.

    Args:
        backend: The backend that runs the step graph.
        manifest: The bundle's manifest.
        slots: Maximum number of images in the lane, over all resolutions.
    """

    def __init__(self, backend: Backend, manifest: Manifest, *, slots: int) -> None:
        self._capacity = slots
        # Opened for all resolutions now, so that an engine that was not built for one of them fails here, not during a request.
        self._sizes = {
            cells: Slots(backend, manifest, capacity=slots, cells=cells)
            for cells in (side // manifest.latent_factor for side in manifest.window_sides)
        }

    def run(self, jobs: Iterable[Job], cancel: CancelCheck | None = None) -> Iterator[JobResult]:
        """Denoise jobs, yielding each result as it finishes; jobs beyond the number of slots wait for a free slot.

        Args:
            jobs: The jobs, of any resolutions.
            cancel: Called before every step; True ends the run.

        Raises:
            Cancelled: `cancel` returned True; unfinished jobs are dropped.
            EngineError: the step graph failed.
        """
        waiting = deque(jobs)
        try:
            while waiting or self.steps_done:
                if cancel is not None and cancel():
                    raise Cancelled("the edit was cancelled", "no cancellation", "ask for it again")
                while waiting and len(self.steps_done) < self._capacity:
                    self.admit(waiting.popleft())
                yield from self.step()
        finally:
            for job in self.steps_done:
                self.evict(job)

    def warm_up(self) -> None:
        """Launch every shape of the step graph once, at all resolutions; images in the lane are not affected. From any thread."""
        for slots in self._sizes.values():
            slots.warm_up()

    @property
    def steps_done(self) -> dict[Job, int]:
        """Number of finished steps of each job in the lane."""
        return {job: step for slots in self._sizes.values() for job, step in slots.steps_done.items()}

    def evict(self, job: Job) -> None:
        """Remove a job between two launches and discard its state; the other jobs are not affected."""
        self._sizes[job.cells].evict(job)

    def last_states(self, job: Job) -> tuple[Array, Array, Array | None]:
        """A job's state [K,C,h,w] before and after the last launch, and the fresh noise [C,h,w] of that launch, if any."""
        return self._sizes[job.cells].last_states(job)

    def admit(self, job: Job) -> None:
        """Put a job into the first free slot; the next launch runs its first step."""
        self._sizes[job.cells].admit(job)

    def step(self) -> list[JobResult]:
        """Run one launch per resolution, which advances every image by one step; returns and removes the finished images.

        An image whose numbers stop being finite is returned with a fault; the others advance without it.
        """
        return [result for slots in self._sizes.values() if slots.steps_done for result in slots.step()]
