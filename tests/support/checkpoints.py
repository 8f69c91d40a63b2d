"""Tiny checkpoints with random weights, made by the exporter's own maker."""

from __future__ import annotations

from alterbute_export.sample_checkpoints import SampleSpec, make_checkpoint, make_sample_spec, make_tokenizer
from alterbute_export.sample_checkpoints.demo import VOCABULARY

__all__ = ["VOCABULARY", "SampleSpec", "make_checkpoint", "make_sample_spec", "make_tokenizer"]
