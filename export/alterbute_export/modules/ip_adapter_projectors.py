"""IP-Adapter's projectors from the image encoder's output to identity tokens."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

Weights = dict[str, torch.Tensor]

HEAD_DIM: Final = 64
"""Width of an attention head of the plus projector; published files use 64 and do not store it."""


class TokenProjector(nn.Module):  # type: ignore[misc]
    """Projector of IP-Adapter base: one Linear from the image embedding to all tokens, then LayerNorm."""

    def __init__(self, weights: Weights, dim: int) -> None:
        super().__init__()
        width, embedding = weights["image_proj.proj.weight"].shape
        self.dim = dim
        self.proj = nn.Linear(embedding, width)
        self.norm = nn.LayerNorm(dim)
        names = ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
        self.load_state_dict({name: weights[f"image_proj.{name}"] for name in names})

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Project `[M,d]` image embeddings to `[M,Ti,D]` tokens."""
        tokens: torch.Tensor = self.norm(self.proj(embedding).unflatten(1, (-1, self.dim)))
        return tokens


class Resampler(nn.Module):  # type: ignore[misc]
    """Projector of IP-Adapter plus: learned queries attend to the image encoder's patch states, layer by layer.

    This is a Perceiver resampler (arXiv 2204.14198, section 3.1.1): keys and values are patches and queries together.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        state = {
            name.removeprefix("image_proj."): tensor
            for name, tensor in weights.items()
            if name.startswith("image_proj.")
        }
        width, inner = state["proj_in.weight"].shape[1], state["latents"].shape[2]
        dim = state["proj_out.weight"].shape[0]
        depth = sum(name.endswith(".0.to_q.weight") for name in state)
        self.latents = nn.Parameter(torch.empty_like(state["latents"]))
        self.proj_in, self.proj_out = nn.Linear(width, inner), nn.Linear(inner, dim)
        self.norm_out = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [_QueryAttention(inner, state[f"layers.{layer}.0.to_q.weight"].shape[0]), _feed_forward(inner)]
            )
            for layer in range(depth)
        )
        self.load_state_dict(state)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Resample `[M,P,d]` patch states to `[M,Ti,D]` tokens."""
        patches = self.proj_in(states)
        queries = self.latents.expand(patches.shape[0], -1, -1)
        for attention, forward in self.layers:
            queries = queries + attention(patches, queries)
            queries = queries + forward(queries)
        tokens: torch.Tensor = self.norm_out(self.proj_out(queries))
        return tokens


class _QueryAttention(nn.Module):  # type: ignore[misc]
    """Attention of queries to patches and to the queries themselves."""

    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(inner), nn.LayerNorm(inner)
        self.to_q = nn.Linear(inner, width, bias=False)
        self.to_kv = nn.Linear(inner, 2 * width, bias=False)
        self.to_out = nn.Linear(width, inner, bias=False)

    def forward(self, patches: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Attend: `patches [M,P,inner]` and `queries [M,Ti,inner]` to `[M,Ti,inner]`."""
        patches, queries = self.norm1(patches), self.norm2(queries)
        key, value = self.to_kv(torch.cat([patches, queries], dim=1)).chunk(2, dim=-1)
        heads = (states.unflatten(2, (-1, HEAD_DIM)).transpose(1, 2) for states in (self.to_q(queries), key, value))
        out: torch.Tensor = self.to_out(functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return out


def _feed_forward(inner: int) -> nn.Sequential:
    """Feed-forward layers, numbered as in published keys, where the GELU is number 2."""
    return nn.Sequential(
        nn.LayerNorm(inner), nn.Linear(inner, 4 * inner, bias=False), nn.GELU(), nn.Linear(4 * inner, inner, bias=False)
    )
