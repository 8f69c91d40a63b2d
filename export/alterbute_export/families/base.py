"""What a family gives the exporter, whatever its conditions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alterbute.bundle import Identity

from alterbute_export.checkpoint.settings import CheckpointSettings, droppable_channels, scene_channels
from alterbute_export.checkpoint.text_sizes import TextSizes
from alterbute_export.graphs.spec import SpecMaker
from alterbute_export.graphs.step import StepLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models that every family uses, as shapes without weights: `Checkpoint.load` has those.

    `factor` is pixels per latent cell; `stride` is latent cells per cell of the UNet's deepest level.
    """

    unet: Any
    vae: Any
    factor: int
    stride: int
    text: TextSizes

    @property
    def latent_channels(self) -> int:
        """C."""
        return int(self.vae.config.latent_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyGraphs:
    """Makers of the step graph, and of the identity graph where the family has one, with what the manifest says of it."""

    step: SpecMaker
    identity: SpecMaker | None = None
    identity_entry: Identity | None = None


def step_layout(
    settings: CheckpointSettings,
    models: Models,
    *,
    identity: tuple[int | str, ...] | None = None,
    has_identity_scale: bool = False,
) -> StepLayout:
    """The step graph's sizes for a checkpoint; a family adds its identity."""
    channels = models.latent_channels
    return StepLayout(
        channels=channels,
        scene=scene_channels(settings, channels),
        droppable=droppable_channels(settings, channels),
        stride=models.stride,
        text=(models.text.tokens, models.text.dim),
        pooled=models.text.pooled,
        identity=identity,
        has_identity_scale=has_identity_scale,
    )
