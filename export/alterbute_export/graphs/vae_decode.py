"""The decode graph: a clean latent to the edited window's pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.graphs.spec import CHECK_SIDE, GraphSpec, edge
from alterbute_export.modules.autoencoder import Decode
from alterbute_export.modules.pixels import to_bytes


class DecodePixels(nn.Module):  # type: ignore[misc]
    """The VAE's decoder, up to pixels that are not yet rounded, and their mean: bytes cannot say that they were NaN."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.decode = Decode(vae)

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`[B,C,h,w]` f32 to `[B,S,S,3]` f32 in [0,255] and `[B]` f32."""
        pixels = self.decode(latent)
        return to_bytes(pixels), pixels.flatten(1).mean(dim=1)


class DecodeGraph(DecodePixels):
    """`DecodePixels`, rounded half to even as numpy and torch round."""

    def forward(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`[B,C,h,w]` f32 to `[B,S,S,3]` uint8 RGB and `[B]` f32, the mean before clipping."""
        pixels, mean = super().forward(latent)
        return pixels.round().to(torch.uint8), mean


def decode_spec(vae: Any, cells: int, factor: int) -> GraphSpec:
    """The decode graph; `cells` is the side of the latent at the checkpoint's resolution, `factor` pixels per cell."""
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
