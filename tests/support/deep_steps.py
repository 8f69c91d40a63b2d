"""A bundle whose step graph has the block structure and depth of SD 1.5; all else is the tiny bundle of kind `sd15-adapter`."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from alterbute.bundle import describe_files, open_bundle, write_manifest

WIDTH: Final = 320
"""Channels of every level: the narrowest for which ONNX Runtime has all kernels that a step of SD 1.5 uses."""


def make_deep_bundle(tiny: Path, folder: Path) -> None:
    """Write the bundle with fp16 variants, from that of kind `sd15-adapter`.

    Args:
        tiny: The tiny bundle.
        folder: The folder to write.
    """
    from alterbute_export.half.variants import add_variants, write_variants

    bundle = open_bundle(tiny)
    step = bundle.manifest.graphs["step"]
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("manifest.json", "step*.onnx"), dirs_exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        _write_step(Path(place), folder)
    plain = replace(step, variants=tuple(variant for variant in step.variants if variant.file == "step.onnx"))
    manifest = replace(bundle.manifest, graphs={**bundle.manifest.graphs, "step": plain}, files=describe_files(folder))
    written = write_variants(replace(bundle, path=folder, manifest=manifest), folder, "fp16", measure=False)
    graphs = add_variants(manifest.graphs, "fp16", written)
    write_manifest(folder, replace(manifest, graphs=graphs, files=describe_files(folder)))


def _write_step(place: Path, folder: Path) -> None:
    """Write the step graph and its weights file to the folder; the checkpoint goes to `place`."""
    from alterbute_export.checkpoint.reader import read_checkpoint
    from alterbute_export.export_bundle import load_models
    from alterbute_export.families import build_family
    from alterbute_export.onnx_io.weights import WeightStore
    from alterbute_export.onnx_io.write_onnx import write_graph
    from alterbute_export.sample_checkpoints import configs, make_checkpoint, make_sample_spec

    tiny = make_sample_spec("sd15-adapter")
    kept = {
        name: tiny.parts["unet"][name] for name in ("cross_attention_dim", "sample_size", "in_channels", "out_channels")
    }
    unet = {**configs.UNETS["sd15", "published"], "block_out_channels": [WIDTH] * 4, **kept}
    checkpoint = read_checkpoint(make_checkpoint(place, replace(tiny, parts={**tiny.parts, "unet": unet})))
    step = build_family(checkpoint, load_models(checkpoint)).step()
    write_graph(step, WeightStore(folder, half=True, file="weights_step.bin"))
