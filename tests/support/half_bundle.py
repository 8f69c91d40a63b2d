"""A bundle with fp16 variants beside its fp32 graphs, those made for CUDA among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from alterbute.bundle import Bundle, LaunchShape, describe_files, open_bundle, write_manifest
from alterbute_export.half.variants import HalfVariant, add_variants, write_variants

BUCKETS: Final = (LaunchShape(slots=1, rows=1), LaunchShape(slots=1, rows=2), LaunchShape(slots=2, rows=4))


def write_half_bundle(
    source: Path, folder: Path, change: Callable[[Path, Iterable[HalfVariant]], None] | None = None
) -> Bundle:
    """Copy an fp32 bundle to a folder, add fp16 variants with the launch shapes `BUCKETS`, and open it.

    Args:
        source: The fp32 bundle.
        folder: The folder to write to.
        change: Changes the written files before the manifest describes them.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True)
    bundle = open_bundle(source)
    written = write_variants(bundle, folder, "fp16", measure=False)
    if change is not None:
        change(folder, written.values())
    graphs = add_variants(bundle.manifest.graphs, "fp16", written, BUCKETS)
    write_manifest(folder, replace(bundle.manifest, graphs=graphs, files=describe_files(folder)))
    return open_bundle(folder)
