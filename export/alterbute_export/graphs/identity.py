"""The identity graph: a reference picture and its mask to the tokens that carry the object's identity."""

from __future__ import annotations

import torch
from torch import nn

from alterbute_export.graphs.pixels import to_coverage
from alterbute_export.graphs.spec import GraphSpec, draw_mask, edge
from alterbute_export.settings import Settings


class IdentityGraph(nn.Module):  # type: ignore[misc]
    """Grey background, normalisation, image encoder and projection.

    Args:
        encoder: A CLIP image encoder; its projected `image_embeds` are used.
        projector: `[M,d]` embeddings to `[M,Ti,D]` tokens.
        settings: Preprocessing of the checkpoint.
        embedding_dim: d, the encoder's projection size.
    """

    def __init__(self, encoder: nn.Module, projector: nn.Module, settings: Settings, embedding_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.grey = (settings.masked_fill + 1) / 2
        mean, std = torch.tensor(settings.identity.mean), torch.tensor(settings.identity.std)
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("nothing", torch.zeros(1, embedding_dim), persistent=False)

    def forward(self, reference: torch.Tensor, reference_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `[M,Ti,D]` of NHWC uint8 references, and `[1,Ti,D]` of a zero embedding, for unconditional rows."""
        inside = to_coverage(reference_mask)
        pixels = reference.permute(0, 3, 1, 2).float() / 255
        pixels = inside * pixels + (1 - inside) * self.grey
        embedding = self.encoder(pixel_values=(pixels - self.mean) / self.std).image_embeds
        # IP-Adapter's "no identity" is the projection of zeros, which bias and norm make non-zero tokens.
        return self.projector(embedding), self.projector(self.nothing)


def identity_spec(graph: IdentityGraph, settings: Settings, dim: int) -> GraphSpec:
    """The identity graph, ready to export; `dim` is the width D of its tokens."""
    rules = settings.identity
    return GraphSpec(
        name="identity",
        graph=graph,
        reference=graph,
        inputs=(
            edge("reference", "uint8", "M", rules.size, rules.size, 3),
            edge("reference_mask", "uint8", "M", rules.size, rules.size),
        ),
        outputs=(
            edge("identity", "float32", "M", rules.tokens, dim),
            edge("null_identity", "float32", 1, rules.tokens, dim),
        ),
        trace_sizes={"M": 2},
        check_sizes=({"M": 1}, {"M": 3}),
        draw={"reference_mask": draw_mask()},
    )
