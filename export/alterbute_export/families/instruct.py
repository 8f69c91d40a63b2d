"""Family `instruct`: InstructPix2Pix (arXiv 2211.09800), whose UNet takes the latent of the whole photo as scene.

The graphs are those of family `plain`. `source_on` zeroes the photo's channels in the row of guidance that is conditioned
on neither prompt nor photo.
"""

from __future__ import annotations

from alterbute_export.families.plain import build

__all__ = ["build"]
