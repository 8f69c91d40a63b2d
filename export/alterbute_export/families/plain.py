"""Family `plain`: a UNet without identity, edited by strength and re-injection (4 channels) or inpainting (9 channels)."""

from __future__ import annotations

from alterbute_export.checkpoint import Checkpoint
from alterbute_export.families.base import FamilyGraphs, Models, step_layout
from alterbute_export.graphs.gain import input_gain
from alterbute_export.graphs.step import step_spec
from alterbute_export.graphs.unet import UNetRows


def build(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The step graph of a plain checkpoint."""
    settings = checkpoint.settings
    rows = UNetRows(models.unet, input_gain(settings.input_gain, checkpoint.scheduler))
    return FamilyGraphs(step=step_spec(rows, step_layout(settings, models)))
