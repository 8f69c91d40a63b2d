"""What a family gives the exporter, whatever its conditions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alterbute.bundle import Identity

from alterbute_export.graphs.spec import GraphSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The loaded models that every family uses.

    `factor` is pixels per latent cell; `stride` is latent cells per cell of the UNet's deepest level;
    `text_tokens` is the longest prompt.
    """

    unet: Any
    vae: Any
    factor: int
    stride: int
    text_tokens: int

    @property
    def latent_channels(self) -> int:
        """C."""
        return int(self.vae.config.latent_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyGraphs:
    """The step graph, and the identity graph where the family has one, with what the manifest says of it."""

    step: GraphSpec
    identity: GraphSpec | None
    identity_entry: Identity | None
