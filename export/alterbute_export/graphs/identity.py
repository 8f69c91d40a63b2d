"""The identity graph: from reference pictures and masks to identity tokens or an identity latent."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.checkpoint.settings import IdentityRules
from alterbute_export.graphs.spec import CHECK_SIDE, GraphSpec, draw_mask, draw_speckles, edge
from alterbute_export.modules.autoencoder import Encode, latent_factor
from alterbute_export.modules.pixels import to_coverage, to_signed


class IdentityGraph(nn.Module):  # type: ignore[misc]
    """Identity tokens of IP-Adapter base: grey background, normalisation, image encoder, projector.

    Args:
        encoder: A CLIP image encoder; its projected `image_embeds` are used.
        projector: Module from `[M,d]` embeddings to `[M,Ti,D]` tokens.
        rules: Size, mean and std of the encoder's input.
        fill: Value of the background around the object, in [-1,1].
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
        """Tokens `[M,Ti,D]` of NHWC uint8 references with NHW uint8 masks, and `[1,Ti,D]` for rows without identity."""
        inside = to_coverage(reference_mask)
        pixels = reference.permute(0, 3, 1, 2).float() / 255
        pixels = inside * pixels + (1 - inside) * self.grey
        return self.project((pixels - self.mean) / self.std)

    def project(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `[M,Ti,D]` of normalised pixels `[M,3,S,S]`, and `[1,Ti,D]` of a zero embedding."""
        embedding = self.encoder(pixel_values=pixels).image_embeds
        # IP-Adapter base has the projection of a zero embedding as "no identity"; bias and norm make it non-zero.
        return self.projector(embedding), self.projector(self.nothing)


class PatchIdentityGraph(IdentityGraph):
    """Identity tokens of IP-Adapter plus: its projector resamples the encoder's penultimate hidden states.

    Args:
        encoder: A CLIP image encoder.
        projector: Module from `[M,P,d]` patch states to `[M,Ti,D]` tokens.
        rules: Size, mean and std of the encoder's input.
        fill: Value of the background around the object, in [-1,1].
    """

    def __init__(self, encoder: Any, projector: nn.Module, rules: IdentityRules, fill: float) -> None:
        super().__init__(encoder, projector, rules, fill)
        # Plus has the tokens of an all-zero normalised picture as "no identity": a constant, computed once, here.
        with torch.no_grad():
            null = projector(self.encode(torch.zeros(1, 3, rules.size, rules.size)))
        self.register_buffer("null", null, persistent=False)

    def project(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `[M,Ti,D]` of normalised pixels `[M,3,S,S]`, and `[1,Ti,D]` of an all-zero picture."""
        null = self.null
        assert isinstance(null, torch.Tensor)
        return self.projector(self.encode(pixels)), null.clone()

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode normalised pixels `[M,3,S,S]` to patch states `[M,P,d]`."""
        states: torch.Tensor = self.encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        return states


class LatentIdentityGraph(nn.Module):  # type: ignore[misc]
    """Identity latent of family `grid`: the object on an empty canvas, encoded by the VAE.

    Args:
        vae: The checkpoint's autoencoder.
        size: Side of the canvas in pixels.
        fill: Value of the canvas, in [-1,1].
        null: Latent of rows without a reference: "zeros", or "encoded" for the latent of the empty canvas.
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
        """Latents `[M,C,h,w]` of NHWC uint8 references with NHW uint8 masks, and `[1,C,h,w]` for rows without one."""
        inside = to_coverage(reference_mask)
        null = self.null
        assert isinstance(null, torch.Tensor)
        return self.encode(inside * to_signed(reference) + (1 - inside) * self.fill), null.clone()


def identity_spec(graph: nn.Module, size: int, shape: tuple[int, ...]) -> GraphSpec:
    """The spec of an identity graph.

    Args:
        graph: `IdentityGraph`, `PatchIdentityGraph` or `LatentIdentityGraph`.
        size: Side of the reference in pixels.
        shape: Shape of one identity, `(Ti, D)` for tokens or `(C, h, w)` for a latent.
    """
    graph.requires_grad_(False).eval()
    # On an empty canvas of 512 pixels the fp32 group norms of the autoencoder are 7e-4 from float64, in torch and in ONNX
    # Runtime alike. Random speckles instead of a rectangle leave no flat areas.
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
        # The canvas of an autoencoder has a fixed side, which may exceed CHECK_SIDE. CLIP's input does so by little.
        leeway=max(1.0, (size / CHECK_SIDE) ** 2),
    )
