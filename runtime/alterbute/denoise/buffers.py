"""Buffers of the step graph's inputs, allocated once: one entry per slot and per row, written in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from alterbute.backends import Array
from alterbute.bundle import Manifest
from alterbute.denoise.guidance import Row
from alterbute.errors import BundleError
from alterbute.solver import STATE_ROWS

MAX_ROWS_PER_SLOT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedRow:
    """A guidance row of a slot with its inputs: text [T,D], pooled text [P], and identity [Ti,D] or [C,h,w], f32."""

    slot: int
    row: Row
    text: Array
    pooled: Array | None
    identity: Array | None
    identity_scale: float


class StepBuffers:
    """Inputs of the step graph for up to `slots` slots; their addresses never change, so that captured launches stay valid.

    Args:
        manifest: The bundle's manifest; only the inputs of its step graph are allocated.
        slots: Largest number of slots in a launch.
        rows: Largest number of UNet rows in a launch.
        cells: Side of the latents in cells.
    """

    def __init__(self, manifest: Manifest, *, slots: int, rows: int, cells: int) -> None:
        latent = (manifest.latent_channels, cells, cells)
        # SDXL's time ids hold the picture's size, which scales with the resolution.
        time_ids = np.array(manifest.time_ids or (), np.float32) * np.float32(
            cells * manifest.latent_factor / manifest.resolution
        )
        text, identity = manifest.text, manifest.identity
        input_names = {tensor.name for tensor in manifest.graphs["step"].inputs}
        per_slot = {
            "noise": _zeros(slots, *latent),
            "timestep": _zeros(slots),
            "solver": _zeros(slots, STATE_ROWS, STATE_ROWS + 2),
            "reinject": _zeros(slots, 2),
            "background": _zeros(slots, *latent),
            "background_noise": _zeros(slots, *latent),
            "keep": _zeros(slots, 1, cells, cells),
            "scene": _zeros(slots, manifest.scene_channels, cells, cells),
            "guidance_rescale": _zeros(slots),
            "rescale_row": np.zeros(slots, np.int64),
        }
        per_row = {
            "owner": np.zeros(rows, np.int64),
            "source_on": _zeros(rows),
            "text": _zeros(rows, text.tokens, text.dim),
            "pooled": _zeros(rows, text.pooled),
            "time_ids": np.tile(time_ids, (rows, 1)),
            "identity": _zeros(rows, *identity.shape) if identity else _zeros(rows, 0),
            "identity_scale": _zeros(rows),
        }
        self._per_slot = {name: array for name, array in per_slot.items() if name in input_names}
        self._per_row = {name: array for name, array in per_row.items() if name in input_names}
        self.state_shape = (slots, STATE_ROWS, *latent)
        self._guidance = _zeros(0, 0)
        self._changed: set[str] = set()

    def write_slot(self, slot: int, **values: Array | float) -> None:
        """Write the inputs of one slot, by name; inputs that the graph does not have are ignored."""
        for name in values.keys() & self._per_slot.keys():
            self._per_slot[name][slot] = values[name]
            self._changed.add(name)

    def clear(self, slot: int) -> None:
        """Make a slot idle: no row belongs to it and its solver matrix is 0, so that its state stays finite."""
        self.write_slot(slot, noise=0, solver=0, reinject=0, keep=0, guidance_rescale=0, rescale_row=0)

    def pack_rows(self, rows: list[PlacedRow], *, min_slots: int, min_rows: int) -> None:
        """Lay out the rows of the next launches.

        Args:
            rows: The rows, in the order of their slots.
            min_slots: Smallest number of slots in a launch.
            min_rows: Smallest number of rows in a launch; padding rows repeat the first row at weight 0.
        """
        self._guidance = _zeros(max(rows[-1].slot + 1, min_slots), max(len(rows), min_rows))
        # A launch may hold fewer rows than the last one, and a device may pad it to more: an index that an earlier launch
        # left behind would point outside this one, or at a slot that holds NaN. So every index points at a packed row or slot.
        self._per_row["owner"][:] = rows[0].slot
        if "rescale_row" in self._per_slot:
            self._per_slot["rescale_row"][:] = 0
            self._changed.add("rescale_row")
        for n, placed in enumerate([*rows, *rows[:1] * (min_rows - len(rows))]):
            values: dict[str, Array | float | None] = {
                "owner": placed.slot,
                "source_on": placed.row.source_on,
                "text": placed.text,
                "pooled": placed.pooled,
                "identity": placed.identity,
                "identity_scale": placed.identity_scale,
            }
            for name in values.keys() & self._per_row.keys():
                if values[name] is None:
                    raise _missing_input(name)
                self._per_row[name][n] = values[name]
        self._changed |= {"guidance", *self._per_row}
        for n, placed in enumerate(rows):
            self._guidance[placed.slot, n] = placed.row.weight
            if placed.row.text == "prompt":
                self.write_slot(placed.slot, rescale_row=n)

    def inputs(self) -> dict[str, Array]:
        """All inputs of the next launch except `state`: views of the packed slots and rows."""
        slots, rows = self._guidance.shape
        return {
            "guidance": self._guidance,
            **{name: array[:slots] for name, array in self._per_slot.items()},
            **{name: array[:rows] for name, array in self._per_row.items()},
        }

    def pop_changed(self) -> frozenset[str]:
        """Names of the inputs that were written since the last call."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    def noise(self, slot: int) -> Array | None:
        """Copy the fresh noise [C,h,w] f32 of a slot's last launch; None where the graph has no such input."""
        noise = self._per_slot.get("noise")
        return None if noise is None else noise[slot].copy()


def _missing_input(name: str) -> BundleError:
    """The error of a row that lacks an input of the graph; numpy would write None into a float array as NaN."""
    return BundleError(
        f"the step graph has the input `{name}`, and no graph of the bundle makes it",
        f"`{name}` among the outputs of the prompt or identity graph",
        "export the bundle again",
    )


def _zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)
