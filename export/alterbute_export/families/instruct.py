"""Family `instruct`: InstructPix2Pix (arXiv 2211.09800), whose UNet sees the whole photo beside the latent.

The photo's channels are what `source_on` drops from the row that stands for neither prompt nor photo.
"""

from __future__ import annotations

from alterbute_export.families.plain import build

__all__ = ["build"]
