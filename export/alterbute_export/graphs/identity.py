"""The identity graph: a reference picture and its mask to what carries the object's identity, tokens or a latent."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.checkpoint.settings import IdentityRules
from alterbute_export.graphs.spec import CHECK_SIDE, GraphSpec, draw_mask, draw_speckles, edge
from alterbute_export.modules.autoencoder import Encode, latent_factor
from alterbute_export.modules.pixels import to_coverage, to_signed


class IdentityGraph(nn.Module):  # type: ignore[misc]
    """Grey background, normalisation, image encoder and projection.

    Args:
        encoder: A CLIP image encoder; its projected `image_embeds` are used.
        projector: `[M,d]` embeddings to `[M,Ti,D]` tokens.
        rules: Preprocessing of the checkpoint.
        fill: What is put around the object, in [-1,1].
    """

    def __init__(self, encoder: Any, projector: nn.Module, rules: IdentityRules, fill: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.grey = (fill + 1) / 2
        mean, std = torch.tensor(rules.mean), torch.tensor(rules.std)
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("nothing", torch.zeros(1, encoder.config.projection_dim), persistent=False)

    def forward(self, reference: torch.Tensor, reference_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `[M,Ti,D]` of NHWC uint8 references, and `[1,Ti,D]` of a zero embedding, for unconditional rows."""
        inside = to_coverage(reference_mask)
        pixels = reference.permute(0, 3, 1, 2).float() / 255
        pixels = inside * pixels + (1 - inside) * self.grey
        return self.project((pixels - self.mean) / self.std)

    def project(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens of normalised pixels, and those that stand for no identity."""
        embedding = self.encoder(pixel_values=pixels).image_embeds
        # IP-Adapter's "no identity" is the projection of zeros, which bias and norm make non-zero tokens.
        return self.projector(embedding), self.projector(self.nothing)


class PatchIdentityGraph(IdentityGraph):
    """The same for IP-Adapter plus: the projector resamples the encoder's last but one hidden states.

    Its "no identity" is what it makes of a picture of normalised zeros: a constant, so it is computed here, once.
    """

    def __init__(self, encoder: Any, projector: nn.Module, rules: IdentityRules, fill: float) -> None:
        super().__init__(encoder, projector, rules, fill)
        with torch.no_grad():
            null = projector(self.encode(torch.zeros(1, 3, rules.size, rules.size)))
        self.register_buffer("null", null, persistent=False)

    def project(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens of normalised pixels, and those that stand for no identity."""
        null = self.null
        assert isinstance(null, torch.Tensor)
        return self.projector(self.encode(pixels)), null.clone()

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """`[M,P,d]` patch states."""
        states: torch.Tensor = self.encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        return states


class LatentIdentityGraph(nn.Module):  # type: ignore[misc]
    """Family `grid`: the object on an empty canvas, encoded as the UNet sees it.

    Args:
        vae: The checkpoint's autoencoder.
        size: Side of the canvas in pixels.
        fill: The canvas, in [-1,1].
        null: What a dropped reference is: "zeros", or "encoded", the latent of the empty canvas.
    """

    def __init__(self, vae: Any, size: int, fill: float, null: str) -> None:
        super().__init__()
        self.encode = Encode(vae)
        self.fill = fill
        cells = [size // latent_factor(vae)] * 2
        canvas = torch.full((1, 3, size, size), fill)
        with torch.no_grad():
            empty = self.encode(canvas) if null == "encoded" else torch.zeros(1, self.encode.channels, *cells)
        self.register_buffer("null", empty, persistent=False)

    def forward(self, reference: torch.Tensor, reference_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents `[M,C,h,w]` of NHWC uint8 references, and `[1,C,h,w]` for rows without one."""
        inside = to_coverage(reference_mask)
        null = self.null
        assert isinstance(null, torch.Tensor)
        return self.encode(inside * to_signed(reference) + (1 - inside) * self.fill), null.clone()


def identity_spec(graph: nn.Module, size: int, shape: tuple[int, ...]) -> GraphSpec:
    """The identity graph, ready to export.

    Args:
        graph: The module.
        size: Side of the reference in pixels.
        shape: Of one identity, `(Ti, D)` or `(C, h, w)`.
    """
    graph.requires_grad_(False).eval()
    # Over an empty canvas of 512 pixels the autoencoder's norms are 7e-4 off in fp32, in torch itself as in ONNX Runtime: what
    # is compared has no flat areas.
    draw = draw_speckles() if isinstance(graph, LatentIdentityGraph) else draw_mask()
    return GraphSpec(
        name="identity",
        graph=graph,
        reference=graph,
        inputs=(
            edge("reference", "uint8", "M", size, size, 3),
            edge("reference_mask", "uint8", "M", size, size),
        ),
        outputs=(edge("identity", "float32", "M", *shape), edge("null_identity", "float32", 1, *shape)),
        trace_sizes={"M": 2},
        check_sizes=({"M": 1}, {"M": 3}),
        draw={"reference_mask": draw},
        # An autoencoder over the whole canvas; CLIP's pictures are small and have no such norms.
        leeway=max(1.0, (size / CHECK_SIDE) ** 2),
    )
