"""The stages, one question each; every file has one `Stage` or a few of a kind."""

from __future__ import annotations

from benchmarks.gpu.stage_plan import Stage
from benchmarks.gpu.stages.batches import PRODUCT_BATCHES
from benchmarks.gpu.stages.ceilings import CEILINGS
from benchmarks.gpu.stages.engine_stages import RTX, TENSORRT
from benchmarks.gpu.stages.kernels import KERNELS
from benchmarks.gpu.stages.parity import PARITY
from benchmarks.gpu.stages.product import PRODUCT
from benchmarks.gpu.stages.published_models import BUNDLE, SDXL_GIVEN, SDXL_MADE
from benchmarks.gpu.stages.step_graphs import STEP_GRAPHS
from benchmarks.gpu.stages.torch_stages import COMPILED, TORCH, TORCH_BATCHES

__all__ = ["BUNDLE", "list_stages"]


def list_stages(*, has_bundle: bool, has_sdxl: bool) -> tuple[Stage, ...]:
    """The stages in the order of their worth; a bundle that was not given is made first.

    Args:
        has_bundle: Whether a bundle of SD1.5 was given.
        has_sdxl: Whether a bundle of SDXL was given.
    """
    return (
        CEILINGS,
        *(() if has_bundle else (BUNDLE,)),
        PRODUCT,
        PARITY,
        STEP_GRAPHS,
        KERNELS,
        TORCH,
        COMPILED,
        PRODUCT_BATCHES,
        TORCH_BATCHES,
        TENSORRT,
        RTX,
        SDXL_GIVEN if has_sdxl else SDXL_MADE,
    )
