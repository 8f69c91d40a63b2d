"""The step graph: rows, UNet, guidance, solver and re-injection in one launch (design section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from alterbute.bundle import TensorSpec
from torch import nn

from alterbute_export.checkpoint.settings import TIME_IDS
from alterbute_export.graphs.spec import GraphSpec, draw_index, draw_uniform, edge

STATE_ROWS: Final = 4
"""K: the latent and three auxiliary rows hold every solver that is named in the design."""
ROW_INPUTS: Final[tuple[str, ...]] = ("text", "pooled", "time_ids", "identity", "identity_scale")
"""What the UNet is told of a row beside latent, timestep and scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLayout:
    """The sizes of a step graph, and which conditions it has.

    Args:
        channels: Latent channels C.
        scene: Scene channels Cs; 0 for a UNet that sees the latent alone.
        droppable: The scene channels that a row may do without, as 1 among 0; `source_on` is an input if there are any.
        stride: Latent cells per cell of the UNet's deepest level: h and w are multiples of it.
        text: Tokens and width `(T, D)` of the prompt; T is the longest prompt and stays free.
        pooled: Width P of the pooled text, with which the time ids come; 0 for none.
        identity: Shape of one row's identity, `(Ti, D)` for tokens, or None.
        has_identity_scale: Whether the strength of the identity is an input.
    """

    channels: int
    scene: int
    droppable: tuple[int, ...]
    stride: int
    text: tuple[int, int]
    pooled: int
    identity: tuple[int | str, ...] | None
    has_identity_scale: bool


class StepGraph(nn.Module):  # type: ignore[misc]
    """One denoising step for B slots and N UNet rows; every quantity is per slot or per row.

    Args:
        denoiser: The family's UNet call, `(latent [N,C,h,w], timestep [N], row)`; `row` holds `scene` and the row inputs by name.
        inputs: Names of the inputs in their order, as of `step_spec`.
        droppable: `[Cs]` f32, 1 for the scene channels that `source_on` may drop, 0 for the others.
        residual: Computes `[B,C,h,w]` from `scene [B,Cs,h,w]`, to be added to the guided output; or None.
    """

    def __init__(
        self, denoiser: nn.Module, inputs: tuple[str, ...], droppable: torch.Tensor, residual: nn.Module | None
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.residual = residual
        self.inputs = inputs
        self.register_buffer("droppable", droppable.reshape(1, len(droppable), 1, 1), persistent=False)

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """`[B,K,C,h,w]` state of the next step; inputs as in design section 3."""
        given = dict(zip(self.inputs, values, strict=True))
        state, owner, timestep = given["state"], given["owner"], given["timestep"]
        latent = state[:, 0].index_select(0, owner)
        row = {name: given[name] for name in ROW_INPUTS if name in given}
        if "scene" in given:
            row["scene"] = self._row_scene(given["scene"], owner, given.get("source_on"))
        rows = self.denoiser(latent, timestep.index_select(0, owner), row)
        guided = (given["guidance"] @ rows.flatten(1)).unflatten(1, rows.shape[1:])
        chosen = rows.index_select(0, given["rescale_row"])
        if self.residual is not None:
            # Guidance weights of a slot sum to 1, so what every row would add may be added once, here.
            extra = self.residual(given["scene"])
            guided, chosen = guided + extra, chosen + extra
        guided = _rescale(guided, chosen, given["guidance_rescale"])
        next_state = _solve(state, guided, given["noise"], given["solver"])
        reached = _reinject(
            next_state[:, :1], given["reinject"], given["background"], given["background_noise"], given["keep"]
        )
        return torch.cat([reached, next_state[:, 1:]], dim=1)

    def _row_scene(self, scene: torch.Tensor, owner: torch.Tensor, source_on: torch.Tensor | None) -> torch.Tensor:
        """Scene per row. A factor of exactly 1 keeps a channel's bits, exactly 0 drops it."""
        if source_on is None:
            return scene.index_select(0, owner)
        droppable = self.droppable
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


def step_spec(denoiser: nn.Module, layout: StepLayout, residual: nn.Module | None = None) -> GraphSpec:
    """The step graph of a family, ready to export; an input that the family does not have is not in its graph."""
    inputs = _edges(layout)
    droppable = torch.tensor(layout.droppable, dtype=torch.float32)
    graph = StepGraph(denoiser, tuple(tensor.name for tensor in inputs), droppable, residual)
    graph.requires_grad_(False).eval()
    tokens, stride = layout.text[0], layout.stride
    return GraphSpec(
        name="step",
        graph=graph,
        reference=graph,
        inputs=inputs,
        outputs=(edge("next_state", "float32", "B", STATE_ROWS, layout.channels, "h", "w"),),
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
            "time_ids": draw_uniform(0, 1024),
        },
    )


def _edges(layout: StepLayout) -> tuple[TensorSpec, ...]:
    latent: tuple[int | str, ...] = (layout.channels, "h", "w")
    edges: list[TensorSpec | None] = [
        edge("state", "float32", "B", STATE_ROWS, *latent),
        edge("noise", "float32", "B", *latent),
        edge("timestep", "float32", "B"),
        edge("solver", "float32", "B", STATE_ROWS, STATE_ROWS + 2),
        edge("reinject", "float32", "B", 2),
        edge("background", "float32", "B", *latent),
        edge("background_noise", "float32", "B", *latent),
        edge("keep", "float32", "B", 1, "h", "w"),
        edge("scene", "float32", "B", layout.scene, "h", "w") if layout.scene else None,
        edge("owner", "int64", "N"),
        edge("guidance", "float32", "B", "N"),
        edge("source_on", "float32", "N") if any(layout.droppable) else None,
        edge("text", "float32", "N", "T", layout.text[1]),
        edge("pooled", "float32", "N", layout.pooled) if layout.pooled else None,
        edge("time_ids", "float32", "N", TIME_IDS) if layout.pooled else None,
        edge("identity", "float32", "N", *layout.identity) if layout.identity else None,
        edge("identity_scale", "float32", "N") if layout.has_identity_scale else None,
        edge("guidance_rescale", "float32", "B"),
        edge("rescale_row", "int64", "B"),
    ]
    return tuple(tensor for tensor in edges if tensor is not None)


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
