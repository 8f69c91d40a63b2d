"""Families of checkpoints, by how the UNet is conditioned; one file per family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from alterbute_export.checkpoint.reader import Checkpoint
from alterbute_export.families import adapter, grid, instruct, plain
from alterbute_export.families.base import FamilyGraphs, Models

__all__ = ["FAMILIES", "FamilyGraphs", "Models", "build_family"]

FAMILIES: Final[Mapping[str, Callable[[Checkpoint, Models], FamilyGraphs]]] = {
    "adapter": adapter.build,
    "grid": grid.build,
    "instruct": instruct.build,
    "plain": plain.build,
}
"""Builder of each family's graphs, by the family's name in settings and manifest."""


def build_family(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The step graph of a checkpoint, and its identity graph where the family has one.

    Raises:
        CheckpointError: the checkpoint's parts do not fit each other.
    """
    return FAMILIES[checkpoint.settings.family](checkpoint, models)
