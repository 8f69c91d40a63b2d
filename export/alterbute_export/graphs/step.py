"""The step graph: rows, UNet, guidance, solver and re-injection in one launch (design section 3)."""

from __future__ import annotations

from typing import Final

import torch
from alterbute.bundle import TensorSpec
from torch import nn

from alterbute_export.graphs.spec import GraphSpec, draw_index, draw_uniform, edge

STATE_ROWS: Final = 4
"""K: the latent and three auxiliary rows hold every solver that is named in the design."""


class StepGraph(nn.Module):  # type: ignore[misc]
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


class CollageResidual(nn.Module):  # type: ignore[misc]
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


def step_spec(
    graph: StepGraph, *, channels: int, scene: int, stride: int, text: tuple[int, int], identity: tuple[int | str, ...]
) -> GraphSpec:
    """The step graph, ready to export.

    Args:
        graph: The module.
        channels: Latent channels C.
        scene: Scene channels Cs.
        stride: Latent cells per cell of the UNet's deepest level: h and w are multiples of it.
        text: Tokens and width `(T, D)` of the prompt; T is the longest prompt and stays free.
        identity: Shape of one row's identity, `(Ti, D)` for tokens.
    """
    tokens, dim = text
    latent: tuple[int | str, ...] = (channels, "h", "w")
    inputs: tuple[TensorSpec, ...] = (
        edge("state", "float32", "B", STATE_ROWS, *latent),
        edge("noise", "float32", "B", *latent),
        edge("timestep", "float32", "B"),
        edge("solver", "float32", "B", STATE_ROWS, STATE_ROWS + 2),
        edge("reinject", "float32", "B", 2),
        edge("background", "float32", "B", *latent),
        edge("background_noise", "float32", "B", *latent),
        edge("keep", "float32", "B", 1, "h", "w"),
        edge("scene", "float32", "B", scene, "h", "w"),
        edge("owner", "int64", "N"),
        edge("guidance", "float32", "B", "N"),
        edge("source_on", "float32", "N"),
        edge("text", "float32", "N", "T", dim),
        edge("identity", "float32", "N", *identity),
        edge("identity_scale", "float32", "N"),
        edge("guidance_rescale", "float32", "B"),
        edge("rescale_row", "int64", "B"),
    )
    return GraphSpec(
        name="step",
        graph=graph,
        reference=graph,
        inputs=inputs,
        outputs=(edge("next_state", "float32", "B", STATE_ROWS, *latent),),
        trace_sizes={"B": 2, "N": 3, "T": tokens - 1, "h": 2 * stride, "w": 3 * stride},
        check_sizes=(
            {"B": 1, "N": 2, "T": tokens, "h": 4 * stride, "w": 4 * stride},
            {"B": 3, "N": 7, "T": tokens // 2, "h": 2 * stride, "w": 2 * stride},
        ),
        draw={
            "timestep": draw_uniform(0, 999),
            "owner": draw_index("B"),
            "rescale_row": draw_index("N"),
            "keep": draw_uniform(0, 1),
            "source_on": draw_uniform(0, 1),
            "guidance_rescale": draw_uniform(0, 1),
        },
    )


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
