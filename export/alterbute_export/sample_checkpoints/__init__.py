"""Checkpoints with random weights, of any family, tiny or at published size, in the layout that they are published in.

What they paint is noise. They are for tests (shapes and numbers) and for benchmarks (sizes and times): what reads a real
checkpoint reads them, and nothing about them is special to the reader.
"""

from __future__ import annotations

from alterbute_export.sample_checkpoints.sample_tokenizer import make_tokenizer
from alterbute_export.sample_checkpoints.shapes import KINDS, SIZES, Shape, sample_shape
from alterbute_export.sample_checkpoints.write_checkpoint import make_checkpoint

__all__ = ["KINDS", "SIZES", "Shape", "make_checkpoint", "make_tokenizer", "sample_shape"]
