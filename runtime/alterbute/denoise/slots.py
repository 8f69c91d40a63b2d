"""The slots of one resolution: their buffers, and the launches of the step graph on them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from alterbute.backends import Array, Backend, open_step_state
from alterbute.bundle import Manifest
from alterbute.denoise.buffers import MAX_ROWS_PER_SLOT, PlacedRow, StepBuffers
from alterbute.denoise.guidance import Row
from alterbute.denoise.job import Job, JobResult
from alterbute.denoise.noise import draw_noise
from alterbute.errors import EngineError

_Layout: TypeAlias = tuple[tuple[int, tuple[Row, ...]], ...]
"""Index and rows of every slot in a launch."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Slot:
    index: int
    job: Job
    admitted_s: float
    step: int = 0


class Slots:
    """Buffers for images of one size on one backend; used by one thread at a time.

    Args:
        backend: The backend that runs the step graph.
        manifest: The bundle's manifest.
        capacity: Maximum number of images denoised together.
        cells: Side of their latents in cells.
    """

    def __init__(self, backend: Backend, manifest: Manifest, *, capacity: int, cells: int) -> None:
        self._backend, self._capacity = backend, capacity
        self._buffers = StepBuffers(
            manifest,
            slots=max(capacity, backend.min_slots),
            rows=max(capacity * MAX_ROWS_PER_SLOT, backend.min_rows),
            cells=cells,
        )
        self._state = open_step_state(backend, self._buffers.state_shape)
        self._slots: dict[int, _Slot] = {}
        self._layout: _Layout = ()

    def warm_up(self) -> None:
        """Launch every shape of the step graph that these slots can need; images in them are not affected."""
        self._state.warm_up()

    @property
    def steps_done(self) -> dict[Job, int]:
        """Number of finished steps of each job in these slots."""
        return {slot.job: slot.step for slot in self._slots.values()}

    def evict(self, job: Job) -> None:
        """Remove a job between two launches and discard its state."""
        for slot in [slot for slot in self._slots.values() if slot.job is job]:
            self._clear(slot.index)

    def last_states(self, job: Job) -> tuple[Array, Array, Array | None]:
        """A job's state [K,C,h,w] before and after the last launch, and the fresh noise [C,h,w] of that launch, if any."""
        index = next(slot.index for slot in self._slots.values() if slot.job is job)
        before, after = self._state.last_states(index)
        return before, after, self._buffers.noise(index)

    def admit(self, job: Job) -> None:
        """Put a job into the first free slot; there must be one."""
        index = next(index for index in range(self._capacity) if index not in self._slots)
        self._slots[index] = _Slot(index=index, job=job, admitted_s=time.perf_counter())
        plan, conditioning = job.plan, job.conditioning
        noise = draw_noise(plan.seed, plan.image, 0, conditioning.background.shape)
        state = np.zeros(self._buffers.state_shape[1:], np.float32)
        state[0] = np.float32(plan.start[0]) * conditioning.background + np.float32(plan.start[1]) * noise
        self._state.write_slot(index, state)
        self._buffers.write_slot(
            index,
            background=conditioning.background,
            background_noise=noise,
            keep=conditioning.keep if plan.reinject else 0,
            scene=conditioning.scene,
            guidance_rescale=plan.guidance_rescale,
        )

    def step(self) -> list[JobResult]:
        """Run one launch, which advances every image by one step; returns and removes the finished images.

        An image whose numbers stop being finite is returned with a fault; the others advance without it.
        """
        slots = [self._slots[index] for index in sorted(self._slots)]
        for slot in slots:
            self._write_inputs(slot)
        finished = []
        if not self._launch(slots):
            # Guidance sums over all rows of a launch, so one NaN spreads to every slot: each slot is run alone to find its source.
            broken = [slot for slot in slots if len(slots) == 1 or not self._launch([slot])]
            finished = [self._retire(slot, _not_finite(slot)) for slot in broken]
            slots = [slot for slot in slots if slot not in broken]
            if not slots:
                return finished
            self._launch(slots)
        self._state.flip()
        for slot in slots:
            self._advance(slot)
        return finished + [self._retire(slot) for slot in slots if slot.step == slot.job.plan.steps]

    def _launch(self, slots: list[_Slot]) -> bool:
        """Run the step graph on the rows of these slots; returns whether their new states are finite."""
        self._pack_rows(slots)
        self._state.launch(self._buffers.inputs(), self._buffers.pop_changed())
        return all(self._state.is_finite(slot.index) for slot in slots)

    def _write_inputs(self, slot: _Slot) -> None:
        """Write a slot's inputs of its next step."""
        plan, k = slot.job.plan, slot.step
        self._buffers.write_slot(slot.index, timestep=plan.timestep[k], solver=plan.matrix[k], reinject=plan.level[k])
        if plan.is_noisy[k]:
            shape = slot.job.conditioning.background.shape
            self._buffers.write_slot(slot.index, noise=draw_noise(plan.seed, plan.image, k + 1, shape))

    def _pack_rows(self, slots: list[_Slot]) -> None:
        """Lay out the rows of this launch, unless they equal those of the last launch, as in most steps."""
        layout = tuple((slot.index, slot.job.plan.rows[slot.step]) for slot in slots)
        if layout == self._layout:
            return
        rows = [
            PlacedRow(
                slot=slot.index,
                row=row,
                text=slot.job.conditioning.text[row.text],
                pooled=slot.job.conditioning.pooled.get(row.text),
                identity=slot.job.conditioning.identity.get(row.identity),
                identity_scale=slot.job.plan.identity_scale,
            )
            for slot in slots
            for row in slot.job.plan.rows[slot.step]
        ]
        self._buffers.pack_rows(rows, min_slots=self._backend.min_slots, min_rows=self._backend.min_rows)
        self._layout = layout

    def _advance(self, slot: _Slot) -> None:
        slot.step += 1
        if slot.job.on_step is not None:
            slot.job.on_step(slot.step)

    def _retire(self, slot: _Slot, fault: EngineError | None = None) -> JobResult:
        latent = self._state.latent(slot.index)
        if fault is None and not np.isfinite(latent).all():
            # On a device, states are not checked between steps, which would stall it; they are checked here.
            fault = _not_finite(slot)
        self._clear(slot.index)
        return JobResult(job=slot.job, latent=latent, seconds=time.perf_counter() - slot.admitted_s, fault=fault)

    def _clear(self, index: int) -> None:
        del self._slots[index]
        self._buffers.clear(index)
        # The next image in this slot may have equal rows with other conditioning.
        self._layout = ()


def _not_finite(slot: _Slot) -> EngineError:
    return EngineError(
        f"the step graph gave numbers that are not finite by step {min(slot.step + 1, slot.job.plan.steps)} of {slot.job.plan.steps}",
        "finite latents",
        "try other guidance or another seed; if it stays, export the bundle again",
    )
