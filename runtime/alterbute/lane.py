"""The lane: one device's buffers and the loop over slots - admit, step, retire.

A slot holds one image. Every input of the step graph is per slot or per row, so images at different steps, with
different solvers and guidance, share a launch; an image that joins or leaves changes nothing for the others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from alterbute.backends import Array, Backend
from alterbute.bundle import Manifest
from alterbute.errors import Cancelled, EngineError
from alterbute.guidance import Row
from alterbute.noise import draw_noise
from alterbute.plan import Plan
from alterbute.request import CancelCheck
from alterbute.solver import STATE_ROWS

MAX_ROWS_PER_SLOT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """What the UNet of one image sees beside its latent, all f32.

    Args:
        scene: [Cs,h,w].
        background: [C,h,w], clean latent of the photo's window.
        keep: [1,h,w], 1 = background.
        text: [T,D] by `Row.text`.
        identity: [Ti,D] by `Row.identity`; empty for a bundle without identity.
    """

    scene: Array
    background: Array
    keep: Array
    text: dict[str, Array]
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
    """One denoised image: its job, its clean latent [C,h,w] f32, and the seconds that it was in the lane."""

    job: Job
    latent: Array
    seconds: float


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
        self._slots: dict[int, _Slot] = {}
        size, rows = max(slots, backend.min_slots), max(slots * MAX_ROWS_PER_SLOT, backend.min_rows)
        side = manifest.resolution // manifest.latent_factor
        latent = (size, manifest.latent_channels, side, side)
        text, identity = manifest.text, manifest.identity
        buffers = {
            "noise": _zeros(*latent),
            "timestep": _zeros(size),
            "solver": _zeros(size, STATE_ROWS, STATE_ROWS + 2),
            "reinject": _zeros(size, 2),
            "background": _zeros(*latent),
            "background_noise": _zeros(*latent),
            "keep": _zeros(size, 1, side, side),
            "scene": _zeros(size, manifest.scene_channels, side, side),
            "guidance_rescale": _zeros(size),
            "rescale_row": np.zeros(size, np.int64),
        }
        row_buffers = {
            "owner": np.zeros(rows, np.int64),
            "source_on": _zeros(rows),
            "text": _zeros(rows, text.tokens, text.dim),
            "identity": _zeros(rows, identity.tokens, identity.dim) if identity else _zeros(rows, 0, 0),
            "identity_scale": _zeros(rows),
        }
        # A family without some condition has no such input.
        known = {edge.name for edge in manifest.graphs["step"].inputs}
        self._per_slot = {name: buffer for name, buffer in buffers.items() if name in known}
        self._per_row = {name: buffer for name, buffer in row_buffers.items() if name in known}
        # Two state buffers in turn: what a launch writes is what the next one reads, and nothing is copied.
        self._state = [_zeros(size, STATE_ROWS, *latent[1:]) for _ in range(2)]
        self._layout: tuple[tuple[int, tuple[Row, ...]], ...] = ()
        self._guidance = _zeros(0, 0)

    def run(self, jobs: Iterable[Job], cancel: CancelCheck | None = None) -> Iterator[Finished]:
        """Denoise jobs, yielding each as it finishes; more jobs than slots wait for a free one.

        Raises:
            Cancelled: `cancel` said so; jobs that are not finished are dropped.
            EngineError: the step graph failed, or gave numbers that are not finite.
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

    def admit(self, job: Job) -> None:
        """Put a job into the first free slot; it takes part from the next launch on."""
        index = next(index for index in range(self._capacity) if index not in self._slots)
        plan, seen = job.plan, job.conditions
        self._slots[index] = _Slot(index=index, job=job, admitted_s=time.perf_counter())
        noise = draw_noise(plan.seed, plan.image, 0, seen.background.shape)
        state = self._state[0][index]
        state[:] = 0
        state[0] = np.float32(plan.start[0]) * seen.background + np.float32(plan.start[1]) * noise
        self._put(index, "background", seen.background)
        self._put(index, "background_noise", noise)
        self._put(index, "keep", seen.keep if plan.keeps_background else 0)
        self._put(index, "scene", seen.scene)
        self._put(index, "guidance_rescale", plan.guidance_rescale)

    def step(self) -> list[Finished]:
        """One launch: every image in the lane moves one step, and those that reach their end leave."""
        for slot in self._slots.values():
            self._load(slot)
        slots, rows = self._pack_rows()
        inputs = {
            "state": self._state[0][:slots],
            "guidance": self._guidance,
            **{name: buffer[:slots] for name, buffer in self._per_slot.items()},
            **{name: buffer[:rows] for name, buffer in self._per_row.items()},
        }
        self._backend.run("step", inputs, {"next_state": self._state[1][:slots]})
        self._state.reverse()
        for slot in self._slots.values():
            self._advance(slot)
        return [self._retire(slot) for slot in list(self._slots.values()) if slot.step == slot.job.plan.steps]

    def _load(self, slot: _Slot) -> None:
        """This step's numbers of one slot."""
        plan, k = slot.job.plan, slot.step
        self._put(slot.index, "timestep", plan.timestep[k])
        self._put(slot.index, "solver", plan.matrix[k])
        self._put(slot.index, "reinject", plan.level[k])
        if plan.is_noisy[k]:
            self._put(slot.index, "noise", draw_noise(plan.seed, plan.image, k + 1, slot.job.conditions.background.shape))

    def _pack_rows(self) -> tuple[int, int]:
        """Lay out the rows of this launch, and tell how many slots and rows it has; often it is as the last one's."""
        occupied = [self._slots[index] for index in sorted(self._slots)]
        layout = tuple((slot.index, slot.job.plan.rows[slot.step]) for slot in occupied)
        if layout == self._layout:
            return self._guidance.shape[0], self._guidance.shape[1]
        rows = [(slot, row) for slot in occupied for row in slot.job.plan.rows[slot.step]]
        weights = [row.weight for _, row in rows]
        # The backend's smallest launch is filled up with the first row once more, at weight 0.
        padding = max(self._backend.min_rows - len(rows), 0)
        rows += rows[:1] * padding
        self._guidance = _zeros(max(occupied[-1].index + 1, self._backend.min_slots), len(rows))
        for n, (slot, row) in enumerate(rows):
            self._per_row["owner"][n] = slot.index
            self._put_row(n, "source_on", row.source_on)
            self._put_row(n, "text", slot.job.conditions.text[row.text])
            self._put_row(n, "identity", slot.job.conditions.identity.get(row.identity, 0))
            self._put_row(n, "identity_scale", slot.job.plan.identity_scale)
            if n < len(weights):
                self._guidance[slot.index, n] = weights[n]
                if row.text == "prompt":
                    self._put(slot.index, "rescale_row", n)
        self._layout = layout
        return self._guidance.shape[0], self._guidance.shape[1]

    def _advance(self, slot: _Slot) -> None:
        slot.step += 1
        if not np.isfinite(self._state[0][slot.index]).all():
            raise EngineError(
                f"the step graph gave numbers that are not finite at step {slot.step} of {slot.job.plan.steps}",
                "finite latents",
                "try other guidance or another seed; if it stays, export the bundle again",
            )
        if slot.job.on_step is not None:
            slot.job.on_step(slot.step)

    def _retire(self, slot: _Slot) -> Finished:
        latent = self._state[0][slot.index, 0].copy()
        self._clear(slot.index)
        return Finished(job=slot.job, latent=latent, seconds=time.perf_counter() - slot.admitted_s)

    def _clear(self, index: int) -> None:
        """An idle slot owns no row, and its solver is 0: whatever is left in it stays finite and unseen."""
        del self._slots[index]
        self._layout = ()
        for name in ("noise", "solver", "reinject", "keep", "guidance_rescale", "rescale_row"):
            self._put(index, name, 0)

    def _put(self, index: int, name: str, value: Array | float) -> None:
        if name in self._per_slot:
            self._per_slot[name][index] = value

    def _put_row(self, row: int, name: str, value: Array | float) -> None:
        if name in self._per_row:
            self._per_row[name][row] = value


def _zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)
