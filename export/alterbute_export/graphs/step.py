"""The step graph: rows, UNet, guidance, solver and re-injection in one launch; see docs/step_graph.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from alterbute.bundle import TensorSpec
from torch import nn

from alterbute_export.checkpoint.settings import TIME_IDS
from alterbute_export.graphs.spec import GraphSpec, draw_index, draw_uniform, edge

STATE_ROWS: Final = 4
"""State rows K: the latent and three auxiliary rows, enough for every solver of `alterbute.solver.SOLVERS`."""
ROW_INPUTS: Final[tuple[str, ...]] = ("text", "pooled", "time_ids", "identity", "identity_scale")
"""Inputs with one entry per row that condition the UNet beside latent, timestep and scene, in graph order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLayout:
    """Sizes of a step graph, and the conditions that are among its inputs.

    Args:
        channels: Latent channels C.
        scene: Scene channels Cs; 0 for a UNet whose only input is the latent.
        droppable: For each scene channel, 1 if `source_on` can zero it, else 0. `source_on` is an input if any is 1.
        stride: Latent cells per cell of the UNet's deepest level; h and w are multiples of it.
        text: Tokens of the longest prompt and width of a state, `(T, D)`; the graph's T is free.
        pooled: Width P of the pooled text, which comes with the time ids; 0 for a UNet without both.
        identity: Shape of one row's identity, `(Ti, D)` for tokens or `(C, "h", "w")` for a latent; None without one.
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
    """One denoising step of B slots, which have N UNet rows together; every quantity is per slot or per row.

    Args:
        denoiser: The family's UNet call, `(latent [N,C,h,w], timestep [N], row)`; `row` has `scene` and the inputs of
            ROW_INPUTS by name.
        inputs: Names of the inputs, in the order of the graph.
        droppable: `[Cs]` f32, 1 for scene channels that `source_on` can zero, else 0.
        residual: Module from `scene [B,Cs,h,w]` to `[B,C,h,w]`, which is added to the guided output; or None.
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
        """Compute the state `[B,K,C,h,w]` of the next step from the inputs, in the order of `inputs`.

        The inputs and their shapes are listed in docs/step_graph.md.
        """
        inputs = dict(zip(self.inputs, values, strict=True))
        state, owner, timestep = inputs["state"], inputs["owner"], inputs["timestep"]
        latent = state[:, 0].index_select(0, owner)
        row = {name: inputs[name] for name in ROW_INPUTS if name in inputs}
        if "scene" in inputs:
            row["scene"] = self._row_scene(inputs["scene"], owner, inputs.get("source_on"))
        rows = self.denoiser(latent, timestep.index_select(0, owner), row)
        guided = (inputs["guidance"] @ rows.flatten(1)).unflatten(1, rows.shape[1:])
        chosen = rows.index_select(0, inputs["rescale_row"])
        if self.residual is not None:
            # Guidance weights of a slot sum to 1, so adding the residual once equals adding it to every row.
            extra = self.residual(inputs["scene"])
            guided, chosen = guided + extra, chosen + extra
        guided = _rescale(guided, chosen, inputs["guidance_rescale"])
        next_state = _solve(state, guided, inputs["noise"], inputs["solver"])
        reached = _reinject(
            next_state[:, :1], inputs["reinject"], inputs["background"], inputs["background_noise"], inputs["keep"]
        )
        return torch.cat([reached, next_state[:, 1:]], dim=1)

    def _row_scene(self, scene: torch.Tensor, owner: torch.Tensor, source_on: torch.Tensor | None) -> torch.Tensor:
        """Scene `[N,Cs,h,w]` of each row; droppable channels times `source_on`, where exactly 1 keeps every bit."""
        if source_on is None:
            return scene.index_select(0, owner)
        droppable = self.droppable
        assert isinstance(droppable, torch.Tensor)
        factor = (1 - droppable) + droppable * source_on.reshape(-1, 1, 1, 1)
        return scene.index_select(0, owner) * factor


class CollageResidual(nn.Module):  # type: ignore[misc]
    """The collage to which the UNet's output is a residual: the reference inside the mask, the photo outside.

    Args:
        channels: Latent channels C. The mask has 1 channel of the scene, masked photo and reference have C each.
        starts: First scene channel of each picture, by name.
    """

    def __init__(self, channels: int, starts: dict[str, int]) -> None:
        super().__init__()
        self.mask = starts["mask"]
        self.photo = starts["masked_photo"]
        self.reference = starts["reference"]
        self.channels = channels

    def forward(self, scene: torch.Tensor) -> torch.Tensor:
        """Compose `[B,C,h,w]` from `scene [B,Cs,h,w]`."""
        mask = scene.narrow(1, self.mask, 1)
        photo = scene.narrow(1, self.photo, self.channels)
        reference = scene.narrow(1, self.reference, self.channels)
        return mask * reference + (1 - mask) * photo


def step_spec(denoiser: nn.Module, layout: StepLayout, residual: nn.Module | None = None) -> GraphSpec:
    """The spec of a family's step graph, with the inputs that its layout has.

    Args:
        denoiser: The family's UNet call.
        layout: Sizes and conditions of the graph.
        residual: Module from `scene [B,Cs,h,w]` to `[B,C,h,w]`, which is added to the guided output; or None.
    """
    inputs = _list_inputs(layout)
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


def _list_inputs(layout: StepLayout) -> tuple[TensorSpec, ...]:
    """Inputs of the graph in order; K is STATE_ROWS, B slots, N rows, T tokens."""
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
    """Guidance rescale (arXiv 2305.08891, section 3.4): pull the spread of `guided` towards that of row `chosen`.

    An `amount` of 0 multiplies by exactly 1.
    """
    guided_spread, chosen_spread = _spread(guided), _spread(chosen)
    ratio = chosen_spread / guided_spread.clamp(min=1e-12)
    factor = 1 + amount.reshape(-1, 1) * (ratio - 1)
    return guided * factor.reshape(-1, 1, 1, 1)


def _spread(latent: torch.Tensor) -> torch.Tensor:
    """Standard deviation over each slot's n elements, `[B,1]`; dividing by n or by n-1 cancels in the ratio."""
    flat = latent.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    return (centred * centred).mean(dim=1, keepdim=True).sqrt()


def _solve(state: torch.Tensor, guided: torch.Tensor, noise: torch.Tensor, solver: torch.Tensor) -> torch.Tensor:
    """Apply the solver: `W [B,K,K+2] @ [state ; guided ; noise]` for each slot, `[B,K,C,h,w]`."""
    stacked = torch.cat([state, guided.unsqueeze(1), noise.unsqueeze(1)], dim=1)
    return (solver @ stacked.flatten(2)).unflatten(2, state.shape[2:])


def _reinject(
    latent: torch.Tensor, level: torch.Tensor, background: torch.Tensor, noise: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """Blend the photo's latent, noised to the level just reached, over the kept cells of `latent [B,1,C,h,w]`."""
    signal, sigma = level[:, 0].reshape(-1, 1, 1, 1), level[:, 1].reshape(-1, 1, 1, 1)
    noised_background = (signal * background + sigma * noise).unsqueeze(1)
    keep = keep.unsqueeze(1)
    return keep * noised_background + (1 - keep) * latent
