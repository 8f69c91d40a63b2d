"""Tiny checkpoints with random weights, from the exporter's sample checkpoints."""

from __future__ import annotations

from alterbute_export.sample_checkpoints import SampleSpec, make_checkpoint, make_sample_spec, make_tokenizer
from alterbute_export.sample_checkpoints.demo import VOCABULARY

__all__ = ["VOCABULARY", "SampleSpec", "make_checkpoint", "make_sample_spec", "make_tokenizer"]
