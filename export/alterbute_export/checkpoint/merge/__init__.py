"""Files that are merged into a checkpoint at export: LoRA weights and Textual Inversion embeddings."""

from __future__ import annotations

from alterbute_export.checkpoint.merge.lora import LoraFile, merge_lora, read_lora
from alterbute_export.checkpoint.merge.textual_inversion import (
    TokenEmbedding,
    add_embeddings,
    add_tokens,
    read_token_embeddings,
)

__all__ = [
    "LoraFile",
    "TokenEmbedding",
    "add_embeddings",
    "add_tokens",
    "merge_lora",
    "read_lora",
    "read_token_embeddings",
]
