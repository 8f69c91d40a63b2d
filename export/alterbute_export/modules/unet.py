"""The UNet call for rows: what every family shares of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Row = Mapping[str, torch.Tensor]


class UNetRows(nn.Module):  # type: ignore[misc]
    """N rows through the UNet: latent and scene side by side, text to attend to.

    Args:
        unet: diffusers' UNet.
        gain: What the UNet sees of the latent, as of `graphs.gain`.
    """

    def __init__(self, unet: nn.Module, gain: nn.Module) -> None:
        super().__init__()
        self.unet, self.gain = unet, gain

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, row: Row) -> torch.Tensor:
        """`[N,C,h,w]` model output for `latent [N,C,h,w]`, `timestep [N]` and the rows' conditions by name."""
        sample = self.gain(latent, timestep)
        if "scene" in row:
            sample = torch.cat([sample, row["scene"]], dim=1)
        return self.call_unet(sample, timestep, row)

    def call_unet(self, sample: torch.Tensor, timestep: torch.Tensor, row: Row) -> torch.Tensor:
        """diffusers' UNet on `sample`, all its channels together."""
        out: torch.Tensor = self.unet(
            sample, timestep, row["text"], added_cond_kwargs=self.added_conditions(row), return_dict=False
        )[0]
        return out

    def added_conditions(self, row: Row) -> dict[str, Any]:
        """What diffusers takes beside the text states: SDXL's pooled text and time ids."""
        if "pooled" not in row:
            return {}
        return {"text_embeds": row["pooled"], "time_ids": row["time_ids"]}
