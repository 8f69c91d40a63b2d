"""Files that are merged into a checkpoint at export: LoRA weights and Textual Inversion embeddings."""

from __future__ import annotations

from alterbute_export.checkpoint.merge.lora import LoraFile, merge_lora, read_lora
from alterbute_export.checkpoint.merge.textual_inversion import Lesson, read_lessons, teach_encoder, teach_tokenizer

__all__ = ["Lesson", "LoraFile", "merge_lora", "read_lessons", "read_lora", "teach_encoder", "teach_tokenizer"]
