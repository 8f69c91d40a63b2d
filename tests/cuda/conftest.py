"""Bundles for the tests over the stand-in of CUDA: tiny ones, with their fp16 variants and those rewritten for CUDA."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from alterbute.bundle import LaunchShape, describe_files, open_bundle, write_manifest

from tests.conftest import cache_folder
from tests.cuda.harness import StandIn
from tests.support.cached_build import build_once

BUCKETS = (LaunchShape(slots=1, rows=1), LaunchShape(slots=1, rows=2), LaunchShape(slots=2, rows=4))


@pytest.fixture(scope="session")
def cuda_bundle(request: pytest.FixtureRequest, standin: StandIn, tiny_bundle: Path) -> Path:
    """The tiny bundle with fp16 variants, a step graph rewritten for CUDA, and the launch shapes `BUCKETS`."""

    def make(folder: Path) -> None:
        from alterbute_export.half.variants import add_variants, write_variants

        shutil.copytree(tiny_bundle, folder, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True)
        bundle = open_bundle(tiny_bundle)
        written = write_variants(bundle, folder, "fp16", measure=False)
        graphs = add_variants(bundle.manifest.graphs, "fp16", written, BUCKETS)
        write_manifest(folder, replace(bundle.manifest, graphs=graphs, files=describe_files(folder)))

    return build_once(cache_folder(request, "cuda-bundles") / "tiny", "manifest.json", make)
