"""The prompt graph: from token ids to the text states of one text encoder, or of SDXL's two."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from alterbute_export.graphs.spec import GraphSpec, draw_index, edge


class PromptGraph(nn.Module):  # type: ignore[misc]
    """The last hidden states of a CLIP text encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Encode `[N,T]` int64 ids to `[N,T,D]` f32 states."""
        states: torch.Tensor = self.encoder(input_ids=ids).last_hidden_state
        return states


class PairPromptGraph(nn.Module):  # type: ignore[misc]
    """SDXL's two text encoders: their penultimate hidden states concatenated, and the pooled text of the second.

    Args:
        first: CLIP text encoder.
        second: CLIP text encoder with projection.
        end_id: The id after the last token of a prompt; ids behind it are padding.
        second_pad_id: Padding id of the second encoder's tokenizer.
        has_zeros_for_empty: Whether an empty prompt gives zeros (`force_zeros_for_empty_prompt` of model_index.json).
    """

    def __init__(
        self, first: nn.Module, second: nn.Module, *, end_id: int, second_pad_id: int, has_zeros_for_empty: bool
    ) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.end_id, self.second_pad_id = end_id, second_pad_id
        self.has_zeros_for_empty = has_zeros_for_empty

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode `[N,T]` int64 ids, padded for the first encoder, to states `[N,T,D]` and pooled text `[N,P]`, f32."""
        ends = (ids == self.end_id).int().argmax(dim=1, keepdim=True)
        position = torch.arange(ids.shape[1]).unsqueeze(0)
        second_ids = torch.where(position > ends, self.second_pad_id, ids)
        first = self.first(input_ids=ids, output_hidden_states=True)
        second = self.second(input_ids=second_ids, output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=2)
        pooled = second.text_embeds
        if self.has_zeros_for_empty:
            is_not_empty = (ids[:, 1:2] != self.end_id).float()
            text, pooled = text * is_not_empty.unsqueeze(2), pooled * is_not_empty
        return text, pooled


def prompt_spec(encoder: Any) -> GraphSpec:
    """The spec of the prompt graph of one text encoder."""
    config = encoder.config
    outputs = (edge("text", "float32", "N", "T", int(config.hidden_size)),)
    return _spec(PromptGraph(encoder), encoder, outputs)


def pair_prompt_spec(
    first: Any, second: Any, *, end_id: int, second_pad_id: int, has_zeros_for_empty: bool
) -> GraphSpec:
    """The spec of the prompt graph of SDXL's two text encoders.

    Args:
        first: CLIP text encoder.
        second: CLIP text encoder with projection.
        end_id: The id after the last token of a prompt.
        second_pad_id: Padding id of the second encoder's tokenizer.
        has_zeros_for_empty: Whether an empty prompt gives zeros.
    """
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
