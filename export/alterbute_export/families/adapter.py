"""Family `adapter`: identity tokens in decoupled cross-attention, as IP-Adapter."""

from __future__ import annotations

from typing import Any

import torch
from alterbute.bundle import Identity
from torch import nn

from alterbute_export.attention import cross_attention_names, install_identity_attention
from alterbute_export.checkpoint import ADAPTER_FILE, Checkpoint
from alterbute_export.errors import CheckpointError
from alterbute_export.families.base import FamilyGraphs, Models
from alterbute_export.graphs.gain import input_gain
from alterbute_export.graphs.identity import IdentityGraph, identity_spec
from alterbute_export.graphs.step import CollageResidual, StepGraph, step_spec
from alterbute_export.settings import Settings, scene_channels, scene_starts

Weights = dict[str, torch.Tensor]


class AdapterDenoiser(nn.Module):  # type: ignore[misc]
    """The UNet call for rows: latent and scene side by side, text and identity tokens to attend to."""

    def __init__(self, unet: nn.Module, gain: nn.Module) -> None:
        super().__init__()
        self.unet, self.gain = unet, gain

    def forward(
        self,
        latent: torch.Tensor,
        scene: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        identity: torch.Tensor,
        identity_scale: torch.Tensor,
    ) -> torch.Tensor:
        """`[N,C,h,w]` model output for N rows."""
        out: torch.Tensor = self.unet(
            torch.cat([self.gain(latent, timestep), scene], dim=1),
            timestep,
            text,
            added_cond_kwargs={"image_embeds": (identity, identity_scale)},
            return_dict=False,
        )[0]
        return out


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


def build(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The step and identity graphs of an adapter checkpoint.

    Raises:
        CheckpointError: adapter, encoder and UNet do not fit each other; the key and both shapes are named.
    """
    settings, unet = checkpoint.settings, models.unet
    dim, channels = int(unet.config.cross_attention_dim), models.latent_channels
    encoder = checkpoint.load("image_encoder")
    _check_encoder(encoder, settings.identity.size)
    embedding_dim = int(encoder.config.projection_dim)
    weights = checkpoint.load_adapter()
    _check_weights(weights, _wanted_shapes(unet, settings.identity.tokens, dim, embedding_dim))
    names = cross_attention_names(unet)
    pairs = {index: _pair(weights, index) for index in range(1, 2 * len(names), 2)}
    install_identity_attention(unet, pairs)
    projector = TokenProjector(weights, dim)
    starts = scene_starts(settings, channels)
    graph = StepGraph(
        AdapterDenoiser(unet, input_gain(settings.input_gain, checkpoint.scheduler)),
        source_mask=_source_mask(settings, channels),
        residual=CollageResidual(channels, starts) if settings.residual == "collage" else None,
    )
    for module in (graph, projector):
        module.requires_grad_(False).eval()
    return FamilyGraphs(
        step=step_spec(
            graph,
            channels=channels,
            scene=scene_channels(settings, channels),
            stride=models.stride,
            text=(models.text_tokens, dim),
            identity=(settings.identity.tokens, dim),
        ),
        identity=identity_spec(IdentityGraph(encoder, projector, settings, embedding_dim).eval(), settings, dim),
        identity_entry=Identity(kind="tokens", shape=(settings.identity.tokens, dim), size=settings.identity.size),
    )


def _source_mask(settings: Settings, channels: int) -> torch.Tensor:
    """1 for the channels of the reference picture, which a row may do without, where the scene has one."""
    mask = torch.zeros(scene_channels(settings, channels))
    if "reference" in settings.scene:
        start = scene_starts(settings, channels)["reference"]
        mask[start : start + channels] = 1
    return mask


def _wanted_shapes(unet: Any, tokens: int, dim: int, embedding_dim: int) -> dict[str, tuple[int, ...]]:
    """Every key of the adapter file, with the shape that UNet, encoder and settings ask for."""
    shapes: dict[str, tuple[int, ...]] = {
        "image_proj.proj.weight": (tokens * dim, embedding_dim),
        "image_proj.proj.bias": (tokens * dim,),
        "image_proj.norm.weight": (dim,),
        "image_proj.norm.bias": (dim,),
    }
    for index, name in enumerate(cross_attention_names(unet)):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for kind in "kv":
            shapes[f"ip_adapter.{2 * index + 1}.to_{kind}_ip.weight"] = (width, dim)
    return shapes


def _check_weights(weights: Weights, wanted: dict[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        if name not in weights:
            raise CheckpointError(
                f"{ADAPTER_FILE} lacks key {name}",
                f"it, {list(shape)}",
                "use the adapter that was trained with this UNet",
            )
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(
                f"{ADAPTER_FILE} key {name} is {list(weights[name].shape)}",
                f"{list(shape)}, by unet/config.json, image_encoder/config.json and alterbute.json `identity.tokens`",
                "use the adapter, UNet and image encoder that were trained together",
            )
    for name in sorted(weights.keys() - wanted.keys()):
        raise CheckpointError(
            f"{ADAPTER_FILE} has an unknown key {name}", "IP-Adapter base keys", "use a base adapter of this UNet"
        )


def _check_encoder(encoder: Any, size: int) -> None:
    if int(encoder.config.image_size) != size:
        raise CheckpointError(
            f"alterbute.json key `identity.size` is {size}",
            f"{encoder.config.image_size}, the image_size of image_encoder/config.json",
            "correct the file",
        )


def _pair(weights: Weights, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    return weights[f"ip_adapter.{index}.to_k_ip.weight"], weights[f"ip_adapter.{index}.to_v_ip.weight"]
