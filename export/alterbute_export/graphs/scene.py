"""The scene graph: from the photo window, its mask and a reference canvas to the UNet's scene channels."""

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
    """Scaled VAE latents of the pictures, the mask on the latent grid, and the cells to keep.

    Args:
        vae: The checkpoint's autoencoder.
        settings: The checkpoint's settings: pictures of the scene in order, reduction of the mask, fill of the hole.
        factor: Pixels per latent cell, along each side.
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
        """Encode to `scene [B,Cs,h,w]` (left out if Cs is 0), `background [B,C,h,w]` and `keep [B,1,h,w]`, all f32.

        Args:
            photo: `[B,S,S,3]` uint8 RGB windows.
            mask: `[B,S,S]` uint8; above 0 is edited, and values below 255 are blend weights.
            reference: `[B,S,S,3]` uint8 RGB reference canvases; None for a scene without reference.
            reference_mask: `[B,S,S]` uint8 coverage of the reference's object; None for a scene without reference.
        """
        pixels, weight = to_signed(photo), to_coverage(mask)
        inside = (weight > 0).float()  # UNets are trained on binary masks; blend weights reach `keep` alone
        pictures = {"background": pixels}
        if "masked_photo" in self.pictures:
            pictures["masked_photo"] = self._fill(pixels, 1 - inside)
        if reference is not None and reference_mask is not None:
            pictures["reference"] = self._fill(to_signed(reference), to_coverage(reference_mask))
        # All pictures in one batch: fewer and larger convolutions than one call for each picture.
        latents = self.encode(torch.cat(list(pictures.values()))).unflatten(0, (len(pictures), -1))
        parts = {"mask": self._latent_mask(inside), **dict(zip(pictures, latents, strict=True))}
        background, keep = latents[0], 1 - functional.max_pool2d(weight, self.factor)
        if not self.pictures:
            return background, keep
        if "photo" in self.pictures:
            # InstructPix2Pix was trained on unscaled latents of the photo (arXiv 2211.09800); diffusers does the same.
            parts["photo"] = background / self.encode.scale + self.encode.shift
        return torch.cat([parts[name] for name in self.pictures], dim=1), background, keep

    def _fill(self, pixels: torch.Tensor, coverage: torch.Tensor) -> torch.Tensor:
        return coverage * pixels + (1 - coverage) * self.fill

    def _latent_mask(self, inside: torch.Tensor) -> torch.Tensor:
        if self.marks_background:
            inside = 1 - inside
        if self.nearest:
            # The cells that torch's `interpolate` in its default mode "nearest" selects for a whole factor.
            return inside[:, :, :: self.factor, :: self.factor]
        return functional.avg_pool2d(inside, self.factor)


def scene_spec(vae: Any, settings: CheckpointSettings, factor: int) -> GraphSpec:
    """The spec of a checkpoint's scene graph.

    Args:
        vae: The checkpoint's autoencoder.
        settings: The checkpoint's settings.
        factor: Pixels per latent cell, along each side.
    """
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
        # A small hole and a large object leave small flat areas, over which fp32 sums are biased (1e-5 and more against
        # float64, in torch and ONNX Runtime alike).
        draw={"mask": draw_mask(0.3, 0.5), "reference_mask": draw_mask(0.8, 0.9)},
    )
