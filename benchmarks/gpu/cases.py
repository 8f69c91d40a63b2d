"""The measured models (published sizes, random weights) and kinds of edits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import open_bundle

BATCHES: Final = (1, 2, 4, 8)
MAX_SLOTS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A sample checkpoint, and the work of its graphs in GFLOP (2 x multiply-adds, attention included).

    Args:
        name: Name in the report.
        kind: Kind of the sample checkpoint, such as `sd15-adapter`.
        size: `published` or `tiny`.
        row_gflop: Work of one UNet row; None if unknown.
        others_gflop: Work of the other graphs by name.
    """

    name: str
    kind: str
    size: str
    row_gflop: float | None
    others_gflop: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCase:
    """One kind of edit: denoising steps, scale of text guidance (1 = none) and number of images."""

    steps: int
    guidance: float
    batch: int

    @property
    def rows(self) -> int:
        """UNet rows of one launch: two per image with guidance, else one."""
        return self.batch * (2 if self.guidance != 1 else 1)

    @property
    def name(self) -> str:
        """Name in the report, such as `20 steps, guided, batch 8`."""
        return f"{self.steps} steps, {'guided' if self.guidance != 1 else 'plain'}, batch {self.batch}"


MODELS: Final = (
    Model(
        name="SD1.5 512x512",
        kind="sd15-adapter",
        size="published",
        row_gflop=803.0,
        others_gflop={"prompt": 13.3, "identity": 334.6, "scene": 2 * 1117.0, "decode": 2515.0},
    ),
    Model(
        name="SDXL 1024x1024",
        kind="sdxl-adapter",
        size="published",
        row_gflop=6762.0,
        others_gflop={"prompt": 111.2, "identity": 334.6, "scene": 2 * 4879.0, "decode": 10470.0},
    ),
)
SMOKE: Final = Model(name="tiny SD1.5", kind="sd15-adapter", size="tiny", row_gflop=None, others_gflop={})


def cases(batches: tuple[int, ...] = BATCHES) -> tuple[GpuCase, ...]:
    """20 steps with guidance and 4 without, at every batch size."""
    return tuple(
        GpuCase(steps=steps, guidance=guidance, batch=batch)
        for steps, guidance in ((20, 7.5), (4, 1.0))
        for batch in batches
    )


def make_model(model: Model, work: Path) -> tuple[Path, Path]:
    """Folders of the model's checkpoint and bundle under `work`; made if they do not exist."""
    checkpoint, bundle = work / f"{model.size}-{model.kind}-checkpoint", work / f"{model.size}-{model.kind}"
    if not (bundle / "manifest.json").is_file():
        from alterbute_export.export_bundle import export_bundle
        from alterbute_export.sample_checkpoints import make_checkpoint, make_sample_spec

        if not (checkpoint / "unet").is_dir():
            make_checkpoint(checkpoint, make_sample_spec(model.kind, model.size))
        export_bundle(checkpoint, bundle, storage="fp16")
    open_bundle(bundle)
    return checkpoint, bundle


def make_pictures(side: int) -> tuple[Any, Any]:
    """A photo [side,side,3] uint8 of a gradient with noise, and a mask [side,side] uint8 of its middle quarter."""
    generator = np.random.default_rng(1)
    slope = np.linspace(0, 160, side)
    photo = slope[:, None, None] + generator.integers(0, 96, (side, side, 3))
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
    return photo.astype(np.uint8), mask
