"""IP-Adapter's projectors: from what an image encoder sees to the tokens that a UNet attends to."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

Weights = dict[str, torch.Tensor]

HEAD_DIM: Final = 64
"""Width of a head of the plus projector: 64 in every published file, and stored in none of them."""


class TokenProjector(nn.Module):  # type: ignore[misc]
    """IP-Adapter base: one Linear makes all tokens from one embedding, then LayerNorm."""

    def __init__(self, weights: Weights, dim: int) -> None:
        super().__init__()
        width, embedding = weights["image_proj.proj.weight"].shape
        self.dim = dim
        self.proj = nn.Linear(embedding, width)
        self.norm = nn.LayerNorm(dim)
        names = ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
        self.load_state_dict({name: weights[f"image_proj.{name}"] for name in names})

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """`[M,d]` to `[M,Ti,D]`."""
        tokens: torch.Tensor = self.norm(self.proj(embedding).unflatten(1, (-1, self.dim)))
        return tokens


class Resampler(nn.Module):  # type: ignore[misc]
    """IP-Adapter plus: learned queries attend to the encoder's patch states, layer by layer.

    A Perceiver resampler (arXiv 2204.14198, section 3.1.1): keys and values are patches and queries together.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        own = {
            name.removeprefix("image_proj."): tensor
            for name, tensor in weights.items()
            if name.startswith("image_proj.")
        }
        width, inner = own["proj_in.weight"].shape[1], own["latents"].shape[2]
        dim = own["proj_out.weight"].shape[0]
        depth = sum(name.endswith(".0.to_q.weight") for name in own)
        self.latents = nn.Parameter(torch.empty_like(own["latents"]))
        self.proj_in, self.proj_out = nn.Linear(width, inner), nn.Linear(inner, dim)
        self.norm_out = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([_QueryAttention(inner, own[f"layers.{layer}.0.to_q.weight"].shape[0]), _feed_forward(inner)])
            for layer in range(depth)
        )
        self.load_state_dict(own)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """`[M,P,d]` patch states to `[M,Ti,D]`."""
        patches = self.proj_in(states)
        queries = self.latents.expand(patches.shape[0], -1, -1)
        for attention, forward in self.layers:
            queries = queries + attention(patches, queries)
            queries = queries + forward(queries)
        tokens: torch.Tensor = self.norm_out(self.proj_out(queries))
        return tokens


class _QueryAttention(nn.Module):  # type: ignore[misc]
    """Queries attend to patches and to themselves."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(inner), nn.LayerNorm(inner)
        self.to_q = nn.Linear(inner, width, bias=False)
        self.to_kv = nn.Linear(inner, 2 * width, bias=False)
        self.to_out = nn.Linear(width, inner, bias=False)

    def forward(self, patches: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """`[M,Ti,inner]`."""
        patches, queries = self.norm1(patches), self.norm2(queries)
        key, value = self.to_kv(torch.cat([patches, queries], dim=1)).chunk(2, dim=-1)
        heads = (states.unflatten(2, (-1, HEAD_DIM)).transpose(1, 2) for states in (self.to_q(queries), key, value))
        out: torch.Tensor = self.to_out(functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return out


def _feed_forward(inner: int) -> nn.Sequential:
    """Numbered as the published keys are: the GELU is number 2."""
    return nn.Sequential(
        nn.LayerNorm(inner), nn.Linear(inner, 4 * inner, bias=False), nn.GELU(), nn.Linear(4 * inner, inner, bias=False)
    )
