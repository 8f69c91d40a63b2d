"""Tiny checkpoints with random weights, made by the exporter's own maker."""

from __future__ import annotations

from alterbute_export.sample_checkpoints import Shape, make_checkpoint, make_tokenizer, sample_shape
from alterbute_export.sample_checkpoints.demo import VOCABULARY

__all__ = ["VOCABULARY", "Shape", "make_checkpoint", "make_tokenizer", "sample_shape"]
