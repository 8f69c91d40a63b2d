"""The prompt graph: token ids to what the UNet attends to, from one text encoder or from SDXL's two."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.graphs.spec import GraphSpec, draw_index, edge


class PromptGraph(nn.Module):  # type: ignore[misc]
    """A CLIP text encoder, reduced to its last hidden states."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """`[N,T]` int64 ids to `[N,T,D]` f32 states."""
        states: torch.Tensor = self.encoder(input_ids=ids).last_hidden_state
        return states


class PairPromptGraph(nn.Module):  # type: ignore[misc]
    """SDXL's two text encoders: their last but one hidden states side by side, and the second one's pooled text.

    Args:
        first: CLIP text encoder.
        second: CLIP text encoder with projection.
        end_id: The id that ends a prompt; what follows it is filling.
        second_pad_id: What the second encoder's tokenizer fills a prompt with.
        has_zeros_for_empty: Whether an empty prompt gives zeros, as model_index.json's `force_zeros_for_empty_prompt` asks.
    """

    def __init__(
        self, first: nn.Module, second: nn.Module, *, end_id: int, second_pad_id: int, has_zeros_for_empty: bool
    ) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.end_id, self.second_pad_id = end_id, second_pad_id
        self.has_zeros_for_empty = has_zeros_for_empty

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`[N,T]` int64 ids to `[N,T,D]` and `[N,P]` f32."""
        ends = (ids == self.end_id).int().argmax(dim=1, keepdim=True)
        place = torch.arange(ids.shape[1]).unsqueeze(0)
        second_ids = torch.where(place > ends, self.second_pad_id, ids)
        first = self.first(input_ids=ids, output_hidden_states=True)
        second = self.second(input_ids=second_ids, output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=2)
        pooled = second.text_embeds
        if self.has_zeros_for_empty:
            is_worded = (ids[:, 1:2] != self.end_id).float()
            text, pooled = text * is_worded.unsqueeze(2), pooled * is_worded
        return text, pooled


def prompt_spec(encoder: Any) -> GraphSpec:
    """The prompt graph of one text encoder."""
    config = encoder.config
    outputs = (edge("text", "float32", "N", "T", int(config.hidden_size)),)
    return _spec(PromptGraph(encoder), encoder, outputs)


def pair_prompt_spec(
    first: Any, second: Any, *, end_id: int, second_pad_id: int, has_zeros_for_empty: bool
) -> GraphSpec:
    """The prompt graph of SDXL's two text encoders; arguments as of `PairPromptGraph`."""
    graph = PairPromptGraph(
        first, second, end_id=end_id, second_pad_id=second_pad_id, has_zeros_for_empty=has_zeros_for_empty
    )
    dim = int(first.config.hidden_size) + int(second.config.hidden_size)
    outputs = (
        edge("text", "float32", "N", "T", dim),
        edge("pooled", "float32", "N", int(second.config.projection_dim)),
    )
    return _spec(graph, first, outputs)


def _spec(graph: nn.Module, encoder: Any, outputs: tuple[Any, ...]) -> GraphSpec:
    tokens = int(encoder.config.max_position_embeddings)
    return GraphSpec(
        name="prompt",
        graph=graph,
        reference=graph,
        inputs=(edge("ids", "int64", "N", "T"),),
        outputs=outputs,
        trace_sizes={"N": 3, "T": tokens - 1},
        check_sizes=({"N": 1, "T": tokens}, {"N": 4, "T": tokens // 2}),
        draw={"ids": draw_index(int(encoder.config.vocab_size))},
    )
