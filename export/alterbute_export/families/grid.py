"""Family `grid`: the reference's latent to the right of the slot's, so that self-attention carries the identity.

arXiv 2601.10714, section 3.4: the UNet's input is a 1x2 grid of latents, the noisy latent on the left and the clean
reference on the right. Mask and masked photo are on the left half alone, with zeros on the right. Only the left half of
the output is trained and used.
"""

from __future__ import annotations

import torch
from alterbute.bundle import Identity

from alterbute_export.checkpoint.reader import Checkpoint
from alterbute_export.families.base import FamilyGraphs, Models, make_step_layout
from alterbute_export.graphs.identity import LatentIdentityGraph, identity_spec
from alterbute_export.graphs.spec import GraphSpec
from alterbute_export.graphs.step import step_spec
from alterbute_export.modules.input_gain import make_input_gain
from alterbute_export.modules.unet import Row, UNetRows


class GridRows(UNetRows):
    """The UNet call for rows on the grid `[N,C,h,2w]`; its output is the grid's left half."""

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, row: Row) -> torch.Tensor:
        """Predict `[N,C,h,w]`, the left half of the UNet's output.

        Args:
            latent: `[N,C,h,w]` f32 noisy latents.
            timestep: `[N]` f32 training timesteps.
            row: Conditions by name; `identity` is the reference's clean latent `[N,C,h,w]`.
        """
        # The gain scales noisy latents only: the reference is clean at every step.
        grid = torch.cat([self.gain(latent, timestep), row["identity"]], dim=3)
        scene = row["scene"]
        sample = torch.cat([grid, torch.cat([scene, torch.zeros_like(scene)], dim=3)], dim=1)
        return self.call_unet(sample, timestep, row).narrow(3, 0, latent.shape[3])


def build(checkpoint: Checkpoint, models: Models) -> FamilyGraphs:
    """The step and identity graphs of a grid checkpoint."""
    settings, rules = checkpoint.settings, checkpoint.settings.grid
    assert rules is not None
    size, side = settings.resolution, settings.resolution // models.factor
    shape = (models.latent_channels, side, side)
    layout = make_step_layout(settings, models, identity=(models.latent_channels, "h", "w"))

    def make_step() -> GraphSpec:
        return step_spec(
            GridRows(checkpoint.load("unet"), make_input_gain(settings.input_gain, checkpoint.scheduler)), layout
        )

    def make_identity() -> GraphSpec:
        graph = LatentIdentityGraph(checkpoint.load("vae"), size, rules.reference_fill, rules.null_identity)
        return identity_spec(graph, size, shape)

    return FamilyGraphs(
        step=make_step,
        identity=make_identity,
        identity_entry=Identity(kind="latent", shape=shape, size=size),
    )
