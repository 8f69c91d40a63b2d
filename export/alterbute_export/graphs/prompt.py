"""The prompt graph: token ids to the text encoder's last hidden states."""

from __future__ import annotations

import torch
from torch import nn

from alterbute_export.checkpoint import Checkpoint
from alterbute_export.graphs.spec import GraphSpec, draw_index, edge


class PromptGraph(nn.Module):  # type: ignore[misc]
    """A CLIP text encoder, reduced to what the UNet attends to."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """`[N,T]` int64 ids to `[N,T,D]` f32 states."""
        states: torch.Tensor = self.encoder(input_ids=ids).last_hidden_state
        return states


def prompt_spec(checkpoint: Checkpoint) -> GraphSpec:
    """The prompt graph of a checkpoint."""
    encoder = checkpoint.load("text_encoder")
    config = encoder.config
    tokens = int(config.max_position_embeddings)
    graph = PromptGraph(encoder)
    return GraphSpec(
        name="prompt",
        graph=graph,
        reference=graph,
        inputs=(edge("ids", "int64", "N", "T"),),
        outputs=(edge("text", "float32", "N", "T", int(config.hidden_size)),),
        trace_sizes={"N": 3, "T": tokens - 1},
        check_sizes=({"N": 1, "T": tokens}, {"N": 4, "T": tokens // 2}),
        draw={"ids": draw_index(int(config.vocab_size))},
    )
