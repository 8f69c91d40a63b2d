"""Encoder and decoder of a checkpoint's autoencoder (AutoencoderKL or AutoencoderDC), on scaled latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.errors import CheckpointError


class Encode(nn.Module):  # type: ignore[misc]
    """Encoder from `[B,3,S,S]` f32 pixels in [-1,1] to `[B,C,h,w]` f32 latents in the UNet's scale.

    AutoencoderKL's posterior mean is the latent: sampling would make the same edit differ from run to run.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, getattr(vae, "quant_conv", None)
        self.channels = int(vae.config.latent_channels)
        self.shift, self.scale = read_scaling(vae)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode `[B,3,S,S]` pixels to `[B,C,h,w]` scaled latents, without a random part."""
        latent = self.encoder(pixels)
        if self.quant_conv is not None:
            latent = self.quant_conv(latent)
        return (latent[:, : self.channels] - self.shift) * self.scale


class Decode(nn.Module):  # type: ignore[misc]
    """Decoder from `[B,C,h,w]` f32 scaled latents to `[B,3,S,S]` f32 pixels, about in [-1,1]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, getattr(vae, "post_quant_conv", None)
        self.shift, self.scale = read_scaling(vae)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode `[B,C,h,w]` scaled latents to `[B,3,S,S]` pixels, unclipped."""
        latent = latent / self.scale + self.shift
        if self.post_quant_conv is not None:
            latent = self.post_quant_conv(latent)
        pixels: torch.Tensor = self.decoder(latent)
        return pixels


def read_scaling(vae: Any) -> tuple[float, float]:
    """`(shift, scale)` of the VAE's config: UNet latent = (VAE latent - shift) * scale."""
    return float(vae.config.get("shift_factor") or 0.0), float(vae.config.scaling_factor)


def latent_factor(vae: Any) -> int:
    """Pixels per latent cell, along each side: every block but the last halves the picture.

    Raises:
        CheckpointError: the config normalises latents per channel, which is not supported.
    """
    if vae.config.get("latents_mean") or vae.config.get("latents_std"):
        raise CheckpointError(
            "vae/config.json has `latents_mean` or `latents_std`",
            "one scaling_factor",
            "use an autoencoder without them",
        )
    blocks = vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels
    return int(2 ** (len(blocks) - 1))
