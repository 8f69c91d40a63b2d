"""The autoencoder of a checkpoint, whichever class it is: scaled latents in, scaled latents out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.errors import CheckpointError


class Encode(nn.Module):  # type: ignore[misc]
    """`[B,3,S,S]` pixels in [-1,1] to `[B,C,h,w]` latents in the scale that the UNet works in.

    AutoencoderKL gives the mean of its posterior: a sample would make the same edit differ from run to run.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, getattr(vae, "quant_conv", None)
        self.channels = int(vae.config.latent_channels)
        self.shift, self.scale = scaling(vae)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode; the graph has no random part."""
        latent = self.encoder(pixels)
        if self.quant_conv is not None:
            latent = self.quant_conv(latent)
        return (latent[:, : self.channels] - self.shift) * self.scale


class Decode(nn.Module):  # type: ignore[misc]
    """`[B,C,h,w]` latents to `[B,3,S,S]` pixels, about [-1,1]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, getattr(vae, "post_quant_conv", None)
        self.shift, self.scale = scaling(vae)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode, without clipping."""
        latent = latent / self.scale + self.shift
        if self.post_quant_conv is not None:
            latent = self.post_quant_conv(latent)
        pixels: torch.Tensor = self.decoder(latent)
        return pixels


def scaling(vae: Any) -> tuple[float, float]:
    """`(shift, scale)`: model latent = (VAE latent - shift) * scale."""
    return float(vae.config.get("shift_factor") or 0.0), float(vae.config.scaling_factor)


def latent_factor(vae: Any) -> int:
    """Pixels per latent cell: every block but the last halves the picture.

    Raises:
        CheckpointError: latents are normalised per channel, which no graph here does.
    """
    if vae.config.get("latents_mean") or vae.config.get("latents_std"):
        raise CheckpointError(
            "vae/config.json has `latents_mean` or `latents_std`",
            "one scaling_factor",
            "use an autoencoder without them",
        )
    blocks = vae.config.get("block_out_channels") or vae.config.encoder_block_out_channels
    return int(2 ** (len(blocks) - 1))
