"""A bundle ready to ship: chosen engines, verified bytes, plain modes, an inventory, and nothing else."""

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
        target: Where to; an earlier bundle there is replaced.
        recipes: Ship only engines of these recipes; None ships all.
        key: Private key to sign with; None leaves it unsigned.

    Raises:
        BundleError: the bundle is damaged.
        OutputError: no engines of a recipe, or the target holds something else than a bundle.
    """
    from alterbute_export.packaging.sign import sign_bundle

    bundle = verify_bundle(path)
    manifest = _choose(bundle.manifest, recipes)
    check_target(Path(target))
    with atomic_folder(Path(target).resolve()) as folder:
        for name in sorted(_shipped(bundle.manifest, manifest) - {INVENTORY_FILE}):
            _copy(bundle, name, folder)
        text = json.dumps(_inventory(manifest, describe_files(folder)), indent=1, sort_keys=True) + "\n"
        (folder / INVENTORY_FILE).write_text(text, encoding="utf-8", newline="\n")
        write_manifest(folder, replace(manifest, files=describe_files(folder)))
        if key is not None:
            sign_bundle(folder, key)
        verify_bundle(folder)
    return verify_bundle(target)


def _choose(manifest: Manifest, recipes: Collection[str] | None) -> Manifest:
    if recipes is None:
        return manifest
    built = {engine.recipe for engine in manifest.engines}
    for recipe in recipes:
        if recipe not in built:
            raise OutputError(
                f"the bundle has no engines of recipe {recipe!r}",
                f"one of {', '.join(sorted(built)) or 'none: it has no engines'}",
                f"build it with `alterbute-export engine BUNDLE --recipe engines/recipes/{recipe}.toml`",
            )
    return replace(manifest, engines=tuple(engine for engine in manifest.engines if engine.recipe in recipes))


def _shipped(before: Manifest, after: Manifest) -> set[str]:
    """The files to copy: all but the plans that were left out."""
    dropped = {engine.file for engine in before.engines} - {engine.file for engine in after.engines}
    return set(before.files) - dropped


def _copy(bundle: Bundle, name: str, folder: Path) -> None:
    """A file whose bytes are those that were verified, readable by all and writable by its owner."""
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    with target.open("wb") as file:
        bundle.copy(name, file)
    target.chmod(0o644)


def _inventory(manifest: Manifest, files: Mapping[str, FileEntry]) -> dict[str, Any]:
    """What a reader of a bill of materials asks: what is in it, made from what, with what, for what."""
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
