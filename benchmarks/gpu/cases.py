"""The measured models (published sizes, random weights), their bundles, and the pictures that are edited."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import Bundle, read_manifest

BATCHES: Final = (1, 2, 4, 8)
STEPS: Final = 20
GUIDANCE: Final = 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A sample checkpoint: its name in the report, kind, and size (`published` or `tiny`)."""

    name: str
    kind: str
    size: str


SD15: Final = Model(name="SD1.5 512x512", kind="sd15-adapter", size="published")
SDXL: Final = Model(name="SDXL 1024x1024", kind="sdxl-adapter", size="published")
SMOKE: Final = Model(name="tiny SD1.5", kind="sd15-adapter", size="tiny")


def model_folders(model: Model, work: Path) -> tuple[Path, Path]:
    """Folders of the model's checkpoint and bundle under `work`."""
    return work / f"{model.size}-{model.kind}-checkpoint", work / f"{model.size}-{model.kind}"


def open_measured(folder: str | Path) -> Bundle:
    """Open a bundle that may also hold step graphs that its manifest does not list, which are timed beside its own.

    The product refuses such a folder. Files are verified when they are read, as there.
    """
    return Bundle(path=Path(folder), manifest=read_manifest(folder), sha256="")


def make_model(model: Model, work: Path) -> Path:
    """Folder of the model's bundle under `work`, fp32 with fp16 storage; checkpoint and bundle are made if they do not exist."""
    checkpoint, bundle = model_folders(model, work)
    if not (bundle / "manifest.json").is_file():
        from alterbute_export.export_bundle import export_bundle
        from alterbute_export.sample_checkpoints import make_checkpoint, make_sample_spec

        if not (checkpoint / "model_index.json").is_file():
            make_checkpoint(checkpoint, make_sample_spec(model.kind, model.size))
        export_bundle(checkpoint, bundle, storage="fp16")
    return bundle


def make_pictures(side: int, seed: int = 1) -> tuple[Any, Any]:
    """A photo [side,side,3] uint8 of a gradient with noise, and a mask [side,side] uint8 of its middle quarter.

    Photos of different seeds have different bytes, so that no encoding of an earlier edit is used again.
    """
    generator = np.random.default_rng(seed)
    slope = np.linspace(0, 160, side)
    photo = slope[:, None, None] + generator.integers(0, 96, (side, side, 3))
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 255
    return photo.astype(np.uint8), mask
