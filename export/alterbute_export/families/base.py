"""Data types that all families share: the checkpoint's models and the graphs that a family builds from them."""

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
    """UNet and VAE of a checkpoint as meta models (`Checkpoint.load` loads the weights), and sizes derived from them.

    Args:
        unet: diffusers' UNet.
        vae: diffusers' autoencoder.
        factor: Pixels per latent cell, along each side.
        stride: Latent cells per cell of the UNet's deepest level, along each side.
        text: Sizes of the text conditioning.
    """

    unet: Any
    vae: Any
    factor: int
    stride: int
    text: TextSizes

    @property
    def latent_channels(self) -> int:
        """Latent channels C."""
        return int(self.vae.config.latent_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyGraphs:
    """Graphs of a family.

    Args:
        step: Maker of the step graph.
        identity: Maker of the identity graph; None for a family without references.
        identity_entry: The manifest's `identity` entry; None for a family without references.
    """

    step: SpecMaker
    identity: SpecMaker | None = None
    identity_entry: Identity | None = None


def make_step_layout(
    settings: CheckpointSettings,
    models: Models,
    *,
    identity: tuple[int | str, ...] | None = None,
    has_identity_scale: bool = False,
) -> StepLayout:
    """Sizes and conditions of a checkpoint's step graph.

    Args:
        settings: The checkpoint's settings.
        models: Its models.
        identity: Shape of one row's identity, `(Ti, D)` for tokens or `(C, "h", "w")` for a latent; None without one.
        has_identity_scale: Whether the strength of the identity is an input of the graph.
    """
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
