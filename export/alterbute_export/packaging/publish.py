"""Publishing: a copy of a bundle with chosen engines, verified bytes, plain file modes and an inventory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from alterbute.bundle import Bundle, FileEntry, Manifest, describe_files, verify_bundle, write_manifest

from alterbute_export.errors import OutputError
from alterbute_export.packaging.atomic_folder import atomic_folder, check_target

INVENTORY_FILE: Final = "inventory.json"


def publish_bundle(
    path: str | Path, target: str | Path, *, recipes: Collection[str] | None = None, key: Path | None = None
) -> Bundle:
    """Copy a bundle to a folder that can be shipped as it is. The folder appears complete or not at all.

    Args:
        path: The bundle, which is verified in full first and not changed.
        target: The folder to write; an earlier bundle there is replaced.
        recipes: Names of the recipes whose engines are copied; None copies all.
        key: Path of the private key to sign with; None leaves the copy unsigned.

    Returns:
        The published bundle.

    Raises:
        BundleError: the bundle is damaged.
        OutputError: the bundle has no engines of a recipe, or the target holds something else than a bundle.
    """
    from alterbute_export.packaging.sign import sign_bundle

    bundle = verify_bundle(path)
    manifest = _select_engines(bundle.manifest, recipes)
    check_target(Path(target))
    with atomic_folder(Path(target).resolve()) as folder:
        for name in sorted(_select_files(bundle.manifest, manifest) - {INVENTORY_FILE}):
            _copy_file(bundle, name, folder)
        text = json.dumps(_inventory(manifest, describe_files(folder)), indent=1, sort_keys=True) + "\n"
        (folder / INVENTORY_FILE).write_text(text, encoding="utf-8", newline="\n")
        write_manifest(folder, replace(manifest, files=describe_files(folder)))
        if key is not None:
            sign_bundle(folder, key)
        verify_bundle(folder)
    return verify_bundle(target)


def _select_engines(manifest: Manifest, recipes: Collection[str] | None) -> Manifest:
    """The manifest with the engines of these recipes only."""
    if recipes is None:
        return manifest
    built_recipes = {engine.recipe for engine in manifest.engines}
    for recipe in recipes:
        if recipe not in built_recipes:
            raise OutputError(
                f"the bundle has no engines of recipe {recipe!r}",
                f"one of {', '.join(sorted(built_recipes)) or 'none: it has no engines'}",
                f"build it with `alterbute-export engine BUNDLE --recipe engines/recipes/{recipe}.toml`",
            )
    return replace(manifest, engines=tuple(engine for engine in manifest.engines if engine.recipe in recipes))


def _select_files(source: Manifest, published: Manifest) -> set[str]:
    """The source's files without the plans of engines that are not published."""
    dropped = {engine.file for engine in source.engines} - {engine.file for engine in published.engines}
    return set(source.files) - dropped


def _copy_file(bundle: Bundle, name: str, folder: Path) -> None:
    """Copy a file, verifying its bytes, with mode 644."""
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    with target.open("wb") as file:
        bundle.copy(name, file)
    target.chmod(0o644)


def _inventory(manifest: Manifest, files: Mapping[str, FileEntry]) -> dict[str, Any]:
    """The bill of materials: the bundle's files, its checkpoint, the versions it was made with and the GPUs its engines are for."""
    return {
        "format": "alterbute-inventory-1",
        "bundle": {"name": manifest.name, "family": manifest.family, "schema_version": manifest.schema_version},
        "checkpoint": dict(manifest.checkpoint),
        "producer": dict(manifest.producer),
        "files": [{"name": name, "sha256": entry.sha256, "size": entry.size} for name, entry in sorted(files.items())],
        "engines": [
            {
                "recipe": engine.recipe,
                "graph": engine.graph,
                "product": engine.product,
                "version": engine.version,
                "precision": engine.precision,
                "capabilities": list(engine.capabilities),
                "gpu": engine.gpu,
                "cuda": engine.cuda,
                "driver": engine.driver,
                "source_sha256": engine.onnx,
            }
            for engine in manifest.engines
        ],
    }
