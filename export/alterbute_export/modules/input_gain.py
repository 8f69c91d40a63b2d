"""Input preconditioning: the factor on the UNet's latent input, 1 or the signal scale of its timestep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from alterbute.bundle import Json
from alterbute.solver.scheduler_config import parse_scheduler_config
from torch import nn


class SignalGain(nn.Module):  # type: ignore[misc]
    """The latent times the signal scale a(t) of its timestep; compare c_in of EDM (arXiv 2206.00364).

    Args:
        signal: `[T]` f32, a(t) = sqrt(alphas_cumprod) of every training timestep; interpolated at fractional timesteps.
    """

    def __init__(self, signal: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("signal", signal, persistent=False)

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Scale `latent [N,C,h,w]` by a(t) at `timestep [N]`."""
        signal = self.signal
        assert isinstance(signal, torch.Tensor)
        last = signal.shape[0] - 1
        at = timestep.clamp(0, last)
        low = at.floor()
        below = signal.index_select(0, low.long())
        above = signal.index_select(0, (low + 1).clamp(max=last).long())
        gain = below + (at - low) * (above - below)
        return latent * gain.reshape(-1, 1, 1, 1)


class NoGain(nn.Module):  # type: ignore[misc]
    """The latent unchanged."""

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return `latent`."""
        return latent


def make_input_gain(kind: Literal["signal"] | None, scheduler: Mapping[str, Json]) -> nn.Module:
    """The module for `input_gain` of the settings: `SignalGain` for "signal", `NoGain` for None."""
    if kind is None:
        return NoGain()
    alphas = parse_scheduler_config(scheduler).alphas_cumprod
    return SignalGain(torch.as_tensor(alphas).sqrt().float())
