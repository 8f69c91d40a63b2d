"""The step graph: rows, UNet, guidance, solver and re-injection in one launch (design section 3)."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

STATE_ROWS: Final = 4
"""K: the latent and three auxiliary rows hold every solver that is named in the design."""


class StepGraph(nn.Module):
    """One denoising step for B slots and N UNet rows; every quantity is per slot or per row.

    Args:
        denoiser: The family's UNet call: `(latent, scene, timestep, text, identity, identity_scale)`, all per row.
        source_mask: `[Cs]` f32, 1 for the scene channels that `source_on` may drop, 0 for the others.
        residual: Computes `[B,C,h,w]` from `scene [B,Cs,h,w]`, to be added to the guided output; or None.
    """

    def __init__(self, denoiser: nn.Module, source_mask: torch.Tensor, residual: nn.Module | None) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.residual = residual
        self.register_buffer("source_mask", source_mask.reshape(1, -1, 1, 1), persistent=False)

    def forward(
        self,
        state: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
        solver: torch.Tensor,
        reinject: torch.Tensor,
        background: torch.Tensor,
        background_noise: torch.Tensor,
        keep: torch.Tensor,
        scene: torch.Tensor,
        owner: torch.Tensor,
        guidance: torch.Tensor,
        source_on: torch.Tensor,
        text: torch.Tensor,
        identity: torch.Tensor,
        identity_scale: torch.Tensor,
        guidance_rescale: torch.Tensor,
        rescale_row: torch.Tensor,
    ) -> torch.Tensor:
        """`[B,K,C,h,w]` state of the next step; inputs as in design section 3."""
        rows = self.denoiser(
            state[:, 0].index_select(0, owner),
            self._row_scene(scene, owner, source_on),
            timestep.index_select(0, owner),
            text,
            identity,
            identity_scale,
        )
        guided = (guidance @ rows.flatten(1)).unflatten(1, rows.shape[1:])
        chosen = rows.index_select(0, rescale_row)
        if self.residual is not None:
            # Guidance weights of a slot sum to 1, so what every row would add may be added once, here.
            extra = self.residual(scene)
            guided, chosen = guided + extra, chosen + extra
        guided = _rescale(guided, chosen, guidance_rescale)
        next_state = _solve(state, guided, noise, solver)
        latent = _reinject(next_state[:, :1], reinject, background, background_noise, keep)
        return torch.cat([latent, next_state[:, 1:]], dim=1)

    def _row_scene(self, scene: torch.Tensor, owner: torch.Tensor, source_on: torch.Tensor) -> torch.Tensor:
        """Scene per row. A factor of exactly 1 keeps a channel's bits, exactly 0 drops it."""
        droppable = self.source_mask
        assert isinstance(droppable, torch.Tensor)
        factor = (1 - droppable) + droppable * source_on.reshape(-1, 1, 1, 1)
        return scene.index_select(0, owner) * factor


class CollageResidual(nn.Module):
    """The collage that the UNet corrects: the reference inside the mask, the photo outside.

    Args:
        channels: Latent channels C. The scene is `mask 1, masked_photo C, reference C` at `starts`.
        starts: First scene channel of each picture, by name.
    """

    def __init__(self, channels: int, starts: dict[str, int]) -> None:
        super().__init__()
        self.mask = starts["mask"]
        self.photo = starts["masked_photo"]
        self.reference = starts["reference"]
        self.channels = channels

    def forward(self, scene: torch.Tensor) -> torch.Tensor:
        """`[B,C,h,w]` from `scene [B,Cs,h,w]`."""
        mask = scene.narrow(1, self.mask, 1)
        photo = scene.narrow(1, self.photo, self.channels)
        reference = scene.narrow(1, self.reference, self.channels)
        return mask * reference + (1 - mask) * photo


def _rescale(guided: torch.Tensor, chosen: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Guidance rescale: pull the spread of `guided` towards that of the chosen row. `amount` 0 multiplies by exactly 1."""
    guided_spread, chosen_spread = _spread(guided), _spread(chosen)
    ratio = chosen_spread / guided_spread.clamp(min=1e-12)
    factor = 1 + amount.reshape(-1, 1) * (ratio - 1)
    return guided * factor.reshape(-1, 1, 1, 1)


def _spread(latent: torch.Tensor) -> torch.Tensor:
    """Standard deviation over each slot's elements, `[B,1]`; the n-1 of torch cancels in the ratio."""
    flat = latent.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    return (centred * centred).mean(dim=1, keepdim=True).sqrt()


def _solve(state: torch.Tensor, guided: torch.Tensor, noise: torch.Tensor, solver: torch.Tensor) -> torch.Tensor:
    """`W @ [S ; y ; noise]` for each slot."""
    stacked = torch.cat([state, guided.unsqueeze(1), noise.unsqueeze(1)], dim=1)
    return (solver @ stacked.flatten(2)).unflatten(2, state.shape[2:])


def _reinject(
    latent: torch.Tensor, level: torch.Tensor, background: torch.Tensor, noise: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """Blend the photo's latent, at the level just reached, over the kept cells; `latent` is `[B,1,C,h,w]`."""
    signal, sigma = level[:, 0].reshape(-1, 1, 1, 1), level[:, 1].reshape(-1, 1, 1, 1)
    known = (signal * background + sigma * noise).unsqueeze(1)
    keep = keep.unsqueeze(1)
    return keep * known + (1 - keep) * latent
