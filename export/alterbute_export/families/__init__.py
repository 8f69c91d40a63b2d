"""How a checkpoint takes its conditions: one file per family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from alterbute_export.checkpoint import Checkpoint
from alterbute_export.errors import CheckpointError
from alterbute_export.families import adapter
from alterbute_export.families.base import FamilyGraphs, Models

__all__ = ["FAMILIES", "FamilyGraphs", "Models", "build_family"]

FAMILIES: Final[dict[str, Callable[[Checkpoint, Models], FamilyGraphs]]] = {"adapter": adapter.build}


def build_family(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The graphs that depend on the checkpoint's family.

    Raises:
        CheckpointError: the family has no exporter, or the parts do not fit each other.
    """
    name = checkpoint.settings.family
    if name not in FAMILIES:
        raise CheckpointError(
            f"alterbute.json key `family` is {name!r}", " or ".join(FAMILIES), "export it with a version that knows it"
        )
    return FAMILIES[name](checkpoint, models)
