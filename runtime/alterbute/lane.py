"""The lane: one device's buffers and the loop over slots - admit, step, retire.

A slot holds one image. Every input of the step graph is per slot or per row, so images at different steps, with
different solvers and guidance, share a launch; an image that joins or leaves changes nothing for the others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from alterbute.backends import Array, Backend, open_steps
from alterbute.buffers import MAX_ROWS_PER_SLOT, PlacedRow, StepBuffers
from alterbute.bundle import Manifest
from alterbute.errors import Cancelled, EngineError
from alterbute.guidance import Row
from alterbute.noise import draw_noise
from alterbute.plan import Plan
from alterbute.request import CancelCheck

_Layout: TypeAlias = tuple[tuple[int, tuple[Row, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """What the UNet of one image sees beside its latent, all f32.

    Args:
        scene: [Cs,h,w].
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        text: [T,D] by `Row.text`.
        pooled: [P] by `Row.text`; empty for a bundle without pooled text.
        identity: [Ti,D] or [C,h,w] by `Row.identity`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    text: dict[str, Array]
    pooled: dict[str, Array]
    identity: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One image to denoise."""

    plan: Plan
    conditions: Conditions
    on_step: Callable[[int], None] | None = None
    """Told how many steps are done."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finished:
    """One image that left the lane: its job, its clean latent [C,h,w] f32, and the seconds that it was in the lane.

    `fault` is set when its numbers stopped being finite: then the latent is worth nothing.
    """

    job: Job
    latent: Array
    seconds: float
    fault: EngineError | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class _Slot:
    index: int
    job: Job
    admitted_s: float
    step: int = 0


class Lane:
    """Buffers for a number of slots on one backend; used by one thread at a time.

    Args:
        backend: Where the step graph runs.
        manifest: The bundle's.
        slots: Images that may be denoised together.
    """

    def __init__(self, backend: Backend, manifest: Manifest, *, slots: int) -> None:
        self._backend, self._capacity = backend, slots
        self._buffers = StepBuffers(
            manifest,
            slots=max(slots, backend.min_slots),
            rows=max(slots * MAX_ROWS_PER_SLOT, backend.min_rows),
        )
        self._steps = open_steps(backend, self._buffers.state_shape)
        self._slots: dict[int, _Slot] = {}
        self._layout: _Layout = ()

    def run(self, jobs: Iterable[Job], cancel: CancelCheck | None = None) -> Iterator[Finished]:
        """Denoise jobs, yielding each as it finishes; more jobs than slots wait for a free one.

        Raises:
            Cancelled: `cancel` said so; jobs that are not finished are dropped.
            EngineError: the step graph failed.
        """
        waiting = deque(jobs)
        try:
            while waiting or self._slots:
                if cancel is not None and cancel():
                    raise Cancelled("the edit was cancelled", "no cancellation", "ask for it again")
                while waiting and len(self._slots) < self._capacity:
                    self.admit(waiting.popleft())
                yield from self.step()
        finally:
            for index in list(self._slots):
                self._clear(index)

    @property
    def steps_done(self) -> dict[Job, int]:
        """The jobs that are in the lane, and how many steps of each are done."""
        return {slot.job: slot.step for slot in self._slots.values()}

    def evict(self, job: Job) -> None:
        """Take a job out between two launches; what it has so far is lost, and the others do not notice."""
        for slot in [slot for slot in self._slots.values() if slot.job is job]:
            self._clear(slot.index)

    def last_launch(self, job: Job) -> tuple[Array, Array, Array | None]:
        """The last launch as a job of the lane saw it: state before and after [K,C,h,w], and its noise [C,h,w] if it has any."""
        index = next(slot.index for slot in self._slots.values() if slot.job is job)
        before, after = self._steps.last_launch(index)
        return before, after, self._buffers.noise(index)

    def admit(self, job: Job) -> None:
        """Put a job into the first free slot; it takes part from the next launch on."""
        index = next(index for index in range(self._capacity) if index not in self._slots)
        self._slots[index] = _Slot(index=index, job=job, admitted_s=time.perf_counter())
        plan, seen = job.plan, job.conditions
        noise = draw_noise(plan.seed, plan.image, 0, seen.background.shape)
        state = np.zeros(self._buffers.state_shape[1:], np.float32)
        state[0] = np.float32(plan.start[0]) * seen.background + np.float32(plan.start[1]) * noise
        self._steps.put(index, state)
        self._buffers.put(
            index,
            background=seen.background,
            background_noise=noise,
            keep=seen.keep if plan.reinject else 0,
            scene=seen.scene,
            guidance_rescale=plan.guidance_rescale,
        )

    def step(self) -> list[Finished]:
        """One launch: every image in the lane moves one step, and those that reach their end leave.

        An image whose numbers stop being finite leaves with its fault; the others take their step without it.
        """
        slots = [self._slots[index] for index in sorted(self._slots)]
        for slot in slots:
            self._load(slot)
        finished = []
        if not self._launch(slots):
            # Guidance sums over all rows of a launch, so one NaN shows in every slot: each is tried alone.
            broken = [slot for slot in slots if len(slots) == 1 or not self._launch([slot])]
            finished = [self._retire(slot, _not_finite(slot)) for slot in broken]
            slots = [slot for slot in slots if slot not in broken]
            if not slots:
                return finished
            self._launch(slots)
        self._steps.flip()
        for slot in slots:
            self._advance(slot)
        return finished + [self._retire(slot) for slot in slots if slot.step == slot.job.plan.steps]

    def _launch(self, slots: list[_Slot]) -> bool:
        """Run the step graph on the rows of these slots; whether every latent that it wrote for them is finite."""
        self._pack(slots)
        self._steps.launch(self._buffers.inputs(), self._buffers.take_changed())
        return all(self._steps.is_finite(slot.index) for slot in slots)

    def _load(self, slot: _Slot) -> None:
        """This step's numbers of one slot."""
        plan, k = slot.job.plan, slot.step
        self._buffers.put(slot.index, timestep=plan.timestep[k], solver=plan.matrix[k], reinject=plan.level[k])
        if plan.is_noisy[k]:
            shape = slot.job.conditions.background.shape
            self._buffers.put(slot.index, noise=draw_noise(plan.seed, plan.image, k + 1, shape))

    def _pack(self, slots: list[_Slot]) -> None:
        """Lay out this launch's rows, unless they are those of the last one: most steps change none."""
        layout = tuple((slot.index, slot.job.plan.rows[slot.step]) for slot in slots)
        if layout == self._layout:
            return
        placed = [
            PlacedRow(
                slot=slot.index,
                row=row,
                text=slot.job.conditions.text[row.text],
                pooled=slot.job.conditions.pooled.get(row.text),
                identity=slot.job.conditions.identity.get(row.identity),
                identity_scale=slot.job.plan.identity_scale,
            )
            for slot in slots
            for row in slot.job.plan.rows[slot.step]
        ]
        self._buffers.pack(placed, min_slots=self._backend.min_slots, min_rows=self._backend.min_rows)
        self._layout = layout

    def _advance(self, slot: _Slot) -> None:
        slot.step += 1
        if slot.job.on_step is not None:
            slot.job.on_step(slot.step)

    def _retire(self, slot: _Slot, fault: EngineError | None = None) -> Finished:
        latent = self._steps.latent(slot.index)
        if fault is None and not np.isfinite(latent).all():
            # A device is not waited for between steps: it shows here.
            fault = _not_finite(slot)
        self._clear(slot.index)
        return Finished(job=slot.job, latent=latent, seconds=time.perf_counter() - slot.admitted_s, fault=fault)

    def _clear(self, index: int) -> None:
        del self._slots[index]
        self._buffers.clear(index)
        # The next image in this slot may have rows that look the same and see something else.
        self._layout = ()


def _not_finite(slot: _Slot) -> EngineError:
    return EngineError(
        f"the step graph gave numbers that are not finite by step {min(slot.step + 1, slot.job.plan.steps)} of {slot.job.plan.steps}",
        "finite latents",
        "try other guidance or another seed; if it stays, export the bundle again",
    )
