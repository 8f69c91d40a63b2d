"""Files that are merged into a checkpoint at export: LoRA weights and Textual Inversion embeddings."""

from __future__ import annotations

from alterbute_export.merge.embedding import Lesson, read_lessons, teach_encoder, teach_tokenizer
from alterbute_export.merge.lora import LoraFile, merge_lora, read_lora

__all__ = ["Lesson", "LoraFile", "merge_lora", "read_lessons", "read_lora", "teach_encoder", "teach_tokenizer"]
