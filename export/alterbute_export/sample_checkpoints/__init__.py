"""Sample checkpoints: random weights, any family, tiny or at published size, in the published layout.

Their edits are noise. Tests use them for shapes and numbers, benchmarks for sizes and times. The reader does not treat
them differently from real checkpoints.
"""

from __future__ import annotations

from alterbute_export.sample_checkpoints.sample_specs import KINDS, SIZES, SampleSpec, make_sample_spec
from alterbute_export.sample_checkpoints.sample_tokenizer import make_tokenizer
from alterbute_export.sample_checkpoints.write_checkpoint import make_checkpoint

__all__ = ["KINDS", "SIZES", "SampleSpec", "make_checkpoint", "make_sample_spec", "make_tokenizer"]
