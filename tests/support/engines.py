"""Bundles with placeholder engines, whose bytes no engine library built, for fake libraries and tests of refusals."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from alterbute.bundle import WEIGHTS_FILE, Bundle, Engine, describe_files, open_bundle, write_manifest
from alterbute_export.engine.profiles import make_profiles
from alterbute_export.engine.recipe import Bucket, Recipe
from alterbute_export.half.variants import MODEL_GRAPHS

BUCKETS = (Bucket(slots=2, rows=2), Bucket(slots=2, rows=4), Bucket(slots=4, rows=8), Bucket(slots=4, rows=12))


def write_engines(source: Path, folder: Path, buckets: tuple[Bucket, ...] = BUCKETS, **changes: Any) -> Bundle:
    """Copy a bundle and add a placeholder engine for each graph; `changes` are fields of `Engine`."""
    shutil.copytree(source, folder)
    add_engines(folder, buckets, **changes)
    return open_bundle(folder)


def add_engines(folder: Path, buckets: tuple[Bucket, ...] = BUCKETS, **changes: Any) -> None:
    """Add a placeholder engine for each graph to a bundle's folder and manifest."""
    bundle = open_bundle(folder)
    recipe = Recipe(
        schema_version=1,
        name=changes.get("recipe", "h200_fp16"),
        product="tensorrt",
        precision="fp16",
        buckets=buckets,
        images=2,
    )
    (folder / recipe.name).mkdir()
    engines = []
    for graph in MODEL_GRAPHS:
        if graph in bundle.manifest.graphs:
            (folder / recipe.name / f"{graph}.plan").write_bytes(b"plan of " + graph.encode() + b" (a placeholder)")
            engines.append(_describe(bundle, graph, recipe, changes))
    manifest = replace(bundle.manifest, engines=(*bundle.manifest.engines, *engines), files=describe_files(folder))
    write_manifest(folder, manifest)


def _describe(bundle: Bundle, graph: str, recipe: Recipe, changes: dict[str, Any]) -> Engine:
    engine = Engine(
        graph=graph,
        file=f"{recipe.name}/{graph}.plan",
        recipe=recipe.name,
        product="tensorrt",
        version="11.4.0.106",
        platform="linux_x86_64",
        fit="same_compute_capability",
        capabilities=("9.0",),
        gpu="NVIDIA H200",
        cuda="13.0",
        driver="580.65",
        precision="fp16",
        profiles=make_profiles(bundle.manifest, graph, recipe),
        builder={},
        source=f"{graph}.onnx",
        onnx=_hash(bundle.path / f"{graph}.onnx"),
        weights={WEIGHTS_FILE: _hash(bundle.path / WEIGHTS_FILE)},
        timing_cache=None,
        refit="none",
    )
    return replace(engine, **changes)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
