"""IP-Adapter's decoupled cross-attention (arXiv 2308.06721, section 3.2), with the identity's strength as a tensor.

diffusers keeps the strength as a Python float on each processor, which a trace would make a constant, and skips the
identity branch at 0. Here `(tokens, scale)` is the second element of the `encoder_hidden_states` tuple, so that one graph
serves every strength, one per row.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional


class IdentityAttention(nn.Module):  # type: ignore[misc]
    """A cross-attention processor: `text attention + scale * identity attention`, with one query for both.

    diffusers inspects the signature of `__call__` (not of `forward`) to decide which arguments to pass, and passes the
    attention module first; therefore this class defines `__call__`.

    Args:
        to_k_ip: `[hidden, dim]` key weights for the identity tokens.
        to_v_ip: `[hidden, dim]` value weights for the identity tokens.
    """

    def __init__(self, to_k_ip: torch.Tensor, to_v_ip: torch.Tensor) -> None:
        super().__init__()
        self.to_k_ip = _linear(to_k_ip)
        self.to_v_ip = _linear(to_v_ip)

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]],
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of `[N,S,hidden]` states to `(text [N,T,dim], (tokens [N,Ti,dim], scale [N]))`; `[N,S,hidden]`."""
        text, (tokens, scale) = encoder_hidden_states
        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        out = _attend(query, attn.to_k(text), attn.to_v(text), attn.heads)
        identity = _attend(query, self.to_k_ip(tokens), self.to_v_ip(tokens), attn.heads)
        out = out + scale.reshape(-1, 1, 1) * identity
        projected: torch.Tensor = attn.to_out[0](out)
        return projected


def install_identity_attention(
    unet: UNet2DConditionModel, weights: dict[int, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Replace the processors of the UNet's cross-attentions by `IdentityAttention`, in place.

    Args:
        unet: The UNet.
        weights: `(to_k_ip, to_v_ip)` for each cross-attention, by the odd index (1, 3, 5, ...) of published files.
    """
    processors = dict(unet.attn_processors)
    for index, name in enumerate(cross_attention_names(unet)):
        processors[name] = IdentityAttention(*weights[2 * index + 1])
    unet.set_attn_processor(processors)
    # The identity graph projects image embeddings to tokens, so the UNet's own projection is the identity function.
    # diffusers pools text into the time embedding before it makes the (text, tokens) tuple, so that a UNet with
    # `addition_embed_type="text"` pools text alone, as in training.
    unet.encoder_hid_proj = nn.Identity()
    unet.register_to_config(encoder_hid_dim_type="ip_image_proj")


def cross_attention_names(unet: UNet2DConditionModel) -> list[str]:
    """Names of the cross-attention processors, in the order in which published files number them."""
    return [name for name in unet.attn_processors if name.endswith("attn2.processor")]


def _linear(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    key, value = _split_heads(key, heads), _split_heads(value, heads)
    out = functional.scaled_dot_product_attention(query, key, value)
    return out.transpose(1, 2).flatten(2)


def _split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    return states.unflatten(2, (heads, -1)).transpose(1, 2)
