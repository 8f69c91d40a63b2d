"""The UNet call for rows, which families derive from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Row = Mapping[str, torch.Tensor]


class UNetRows(nn.Module):  # type: ignore[misc]
    """The UNet on N rows: latent and scene concatenated as input, text for cross-attention.

    Args:
        unet: diffusers' UNet.
        gain: Input preconditioning of the latent, see `make_input_gain`.
    """

    def __init__(self, unet: nn.Module, gain: nn.Module) -> None:
        super().__init__()
        self.unet, self.gain = unet, gain

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, row: Row) -> torch.Tensor:
        """Predict the UNet's output `[N,C,h,w]`.

        Args:
            latent: `[N,C,h,w]` f32 noisy latents.
            timestep: `[N]` f32 training timesteps.
            row: Conditions by name: `text`, and `scene` and others where the family has them; N is their first axis.
        """
        sample = self.gain(latent, timestep)
        if "scene" in row:
            sample = torch.cat([sample, row["scene"]], dim=1)
        return self.call_unet(sample, timestep, row)

    def call_unet(self, sample: torch.Tensor, timestep: torch.Tensor, row: Row) -> torch.Tensor:
        """Run diffusers' UNet.

        Args:
            sample: `[N,C+Cs,h,w]` f32, latent and scene concatenated.
            timestep: `[N]` f32 training timesteps.
            row: Conditions by name.
        """
        out: torch.Tensor = self.unet(
            sample, timestep, row["text"], added_cond_kwargs=self.added_conditions(row), return_dict=False
        )[0]
        return out

    def added_conditions(self, row: Row) -> dict[str, Any]:
        """diffusers' `added_cond_kwargs`: SDXL's pooled text and time ids, or nothing."""
        if "pooled" not in row:
            return {}
        return {"text_embeds": row["pooled"], "time_ids": row["time_ids"]}
