"""The decode graph: from clean latents to the pixels of the edited windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.graphs.spec import CHECK_SIDE, GraphSpec, edge
from alterbute_export.modules.autoencoder import Decode
from alterbute_export.modules.pixels import to_bytes


class DecodePixels(nn.Module):  # type: ignore[misc]
    """The VAE's decoder with unrounded pixels, and their mean, which shows a NaN that uint8 pixels would hide."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.decode = Decode(vae)

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode `[B,C,h,w]` f32 to pixels `[B,S,S,3]`, f32 in [0,255], and their mean before clipping, `[B]` f32."""
        pixels = self.decode(latent)
        return to_bytes(pixels), pixels.flatten(1).mean(dim=1)


class DecodeGraph(DecodePixels):
    """`DecodePixels` with uint8 pixels, rounded half to even as in numpy and torch."""

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode `[B,C,h,w]` f32 to pixels `[B,S,S,3]`, uint8 RGB, and their mean before clipping, `[B]` f32."""
        pixels, mean = super().forward(latent)
        return pixels.round().to(torch.uint8), mean


def decode_spec(vae: Any, cells: int, factor: int) -> GraphSpec:
    """The spec of a checkpoint's decode graph.

    Args:
        vae: The checkpoint's autoencoder.
        cells: Side of the latent, in cells, at the checkpoint's resolution.
        factor: Pixels per latent cell, along each side.
    """
    side = min(cells, CHECK_SIDE // factor)
    return GraphSpec(
        name="decode",
        graph=DecodeGraph(vae),
        reference=DecodePixels(vae),
        inputs=(edge("latent", "float32", "B", int(vae.config.latent_channels), "h", "w"),),
        outputs=(edge("image", "uint8", "B", "S", "S", 3), edge("mean", "float32", "B")),
        trace_sizes={"B": 2, "h": cells, "w": cells + 1},
        check_sizes=({"B": 1, "h": side, "w": side}, {"B": 3, "h": side // 2, "w": side // 2}),
    )
