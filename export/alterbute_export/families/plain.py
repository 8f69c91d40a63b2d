"""Family `plain`: a UNet without identity, edited by strength and re-injection (4 channels) or inpainting (9 channels)."""

from __future__ import annotations

from alterbute_export.checkpoint.reader import Checkpoint
from alterbute_export.families.base import FamilyGraphs, Models, make_step_layout
from alterbute_export.graphs.spec import GraphSpec
from alterbute_export.graphs.step import step_spec
from alterbute_export.modules.input_gain import make_input_gain
from alterbute_export.modules.unet import UNetRows


def build(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The step graph of a plain checkpoint."""
    settings = checkpoint.settings
    layout = make_step_layout(settings, models)

    def make_step() -> GraphSpec:
        return step_spec(
            UNetRows(checkpoint.load("unet"), make_input_gain(settings.input_gain, checkpoint.scheduler)), layout
        )

    return FamilyGraphs(step=make_step)
