"""Family `adapter`: identity tokens in decoupled cross-attention, IP-Adapter (arXiv 2308.06721)."""

from __future__ import annotations

from typing import Any

import torch
from alterbute.bundle import Identity

from alterbute_export.checkpoint.ip_adapter_file import check_adapter
from alterbute_export.checkpoint.reader import Checkpoint
from alterbute_export.checkpoint.settings import scene_starts
from alterbute_export.errors import CheckpointError
from alterbute_export.families.base import FamilyGraphs, Models, make_step_layout
from alterbute_export.graphs.identity import IdentityGraph, PatchIdentityGraph, identity_spec
from alterbute_export.graphs.spec import GraphSpec
from alterbute_export.graphs.step import CollageResidual, step_spec
from alterbute_export.modules.input_gain import make_input_gain
from alterbute_export.modules.ip_adapter_attention import cross_attention_names, install_identity_attention
from alterbute_export.modules.ip_adapter_projectors import Resampler, TokenProjector, Weights
from alterbute_export.modules.unet import Row, UNetRows


class AdapterRows(UNetRows):
    """The UNet call for rows, with identity tokens that cross-attention takes beside the text."""

    def added_conditions(self, row: Row) -> dict[str, Any]:
        """diffusers' `added_cond_kwargs`: SDXL's conditions, and `(tokens, strength)` for `IdentityAttention`."""
        return {**super().added_conditions(row), "image_embeds": (row["identity"], row["identity_scale"])}


def build(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The step and identity graphs of an adapter checkpoint.

    Raises:
        CheckpointError: adapter, encoder and UNet do not fit each other; the key and both shapes are named.
    """
    settings, adapter, rules = checkpoint.settings, checkpoint.adapter, checkpoint.settings.identity
    assert adapter is not None and rules is not None
    encoder = checkpoint.load_meta("image_encoder")
    _check_encoder(encoder, rules.size)
    check_adapter(adapter, models.unet, encoder, rules.tokens)
    shape = (rules.tokens, models.text.dim)
    layout = make_step_layout(settings, models, identity=shape, has_identity_scale=True)

    def make_step() -> GraphSpec:
        unet = checkpoint.load("unet")
        weights = checkpoint.load_adapter("ip_adapter.")
        names = cross_attention_names(unet)
        install_identity_attention(unet, {index: _pair(weights, index) for index in range(1, 2 * len(names), 2)})
        starts = scene_starts(settings, models.latent_channels)
        return step_spec(
            AdapterRows(unet, make_input_gain(settings.input_gain, checkpoint.scheduler)),
            layout,
            CollageResidual(models.latent_channels, starts) if settings.residual == "collage" else None,
        )

    def make_identity() -> GraphSpec:
        encoder, weights = checkpoint.load("image_encoder"), checkpoint.load_adapter("image_proj.")
        graph = (
            IdentityGraph(encoder, TokenProjector(weights, adapter.dim), rules, settings.masked_fill)
            if adapter.kind == "base"
            else PatchIdentityGraph(encoder, Resampler(weights), rules, settings.masked_fill)
        )
        return identity_spec(graph, rules.size, shape)

    return FamilyGraphs(
        step=make_step,
        identity=make_identity,
        identity_entry=Identity(kind="tokens", shape=shape, size=rules.size),
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
