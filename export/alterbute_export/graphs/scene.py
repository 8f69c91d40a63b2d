"""The scene graph: the photo window and its mask (and a reference canvas) to what the UNet sees beside the latent."""

from __future__ import annotations

from typing import Any

import torch
from alterbute.bundle import TensorSpec
from torch import nn
from torch.nn import functional

from alterbute_export.checkpoint.settings import CheckpointSettings, scene_channels
from alterbute_export.graphs.spec import CHECK_SIDE, GraphSpec, draw_mask, edge
from alterbute_export.modules.autoencoder import Encode
from alterbute_export.modules.pixels import to_coverage, to_signed


class SceneGraph(nn.Module):  # type: ignore[misc]
    """VAE encodings (posterior mean, scaled), the latent-grid mask, and the cells to keep.

    Args:
        vae: The checkpoint's autoencoder.
        settings: Picture order, kind of mask and fill of the checkpoint.
        factor: Pixels per latent cell.
    """

    def __init__(self, vae: Any, settings: CheckpointSettings, factor: int) -> None:
        super().__init__()
        self.encode = Encode(vae)
        self.pictures = settings.scene
        self.fill = settings.masked_fill
        self.marks_background = settings.grid is not None and settings.grid.mask == "background"
        self.nearest = settings.latent_mask == "nearest"
        self.factor = factor

    def forward(
        self,
        photo: torch.Tensor,
        mask: torch.Tensor,
        reference: torch.Tensor | None = None,
        reference_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """`scene [B,Cs,h,w]`, `background [B,C,h,w]` and `keep [B,1,h,w]` from NHWC uint8 pictures, NHW uint8 masks.

        A UNet that sees its latent alone has no `scene`.
        """
        pixels, weight = to_signed(photo), to_coverage(mask)
        inside = (weight > 0).float()  # UNets know whole masks only; blend weights go to `keep`
        pictures = {"background": pixels}
        if "masked_photo" in self.pictures:
            pictures["masked_photo"] = self._fill(pixels, 1 - inside)
        if reference is not None and reference_mask is not None:
            pictures["reference"] = self._fill(to_signed(reference), to_coverage(reference_mask))
        # One batch for all pictures: few large convolutions rather than three rounds of small ones.
        latents = self.encode(torch.cat(list(pictures.values()))).unflatten(0, (len(pictures), -1))
        parts = {"mask": self._latent_mask(inside), **dict(zip(pictures, latents, strict=True))}
        background, keep = latents[0], 1 - functional.max_pool2d(weight, self.factor)
        if not self.pictures:
            return background, keep
        if "photo" in self.pictures:
            # InstructPix2Pix was trained on the encoder's own scale (arXiv 2211.09800; diffusers does as its authors did).
            parts["photo"] = background / self.encode.scale + self.encode.shift
        return torch.cat([parts[name] for name in self.pictures], dim=1), background, keep

    def _fill(self, pixels: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
        return coverage * pixels + (1 - coverage) * self.fill

    def _latent_mask(self, inside: torch.Tensor) -> torch.Tensor:
        if self.marks_background:
            inside = 1 - inside
        if self.nearest:
            # What torch's default `interpolate` picks when it shrinks by a whole factor.
            return inside[:, :, :: self.factor, :: self.factor]
        return functional.avg_pool2d(inside, self.factor)


def scene_spec(vae: Any, settings: CheckpointSettings, factor: int) -> GraphSpec:
    """The scene graph of a checkpoint."""
    channels = int(vae.config.latent_channels)
    inputs: list[TensorSpec] = [edge("photo", "uint8", "B", "S", "S", 3), edge("mask", "uint8", "B", "S", "S")]
    if "reference" in settings.scene:
        inputs += [edge("reference", "uint8", "B", "S", "S", 3), edge("reference_mask", "uint8", "B", "S", "S")]
    size = settings.resolution
    side = min(size, CHECK_SIDE)
    graph = SceneGraph(vae, settings, factor)
    scene = scene_channels(settings, channels)
    return GraphSpec(
        name="scene",
        graph=graph,
        reference=graph,
        inputs=tuple(inputs),
        outputs=(
            *([edge("scene", "float32", "B", scene, "h", "w")] if scene else []),
            edge("background", "float32", "B", channels, "h", "w"),
            edge("keep", "float32", "B", 1, "h", "w"),
        ),
        trace_sizes={"B": 2, "S": size},
        check_sizes=({"B": 1, "S": side}, {"B": 3, "S": side // 2}),
        # A small hole and a large object: sums over flat areas are biased in fp32, in torch and ONNX Runtime alike
        # (1e-5 and more against float64), which says nothing about the graph.
        draw={"mask": draw_mask(0.3, 0.5), "reference_mask": draw_mask(0.8, 0.9)},
    )
