"""Reading, checking and writing of `manifest.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alterbute.bundle import strict_json, typed_json
from alterbute.bundle.bounds import (
    GRAPH_LIMIT_BYTES,
    TIME_IDS,
    TOKENIZER_LIMIT_BYTES,
    check_document,
    check_limits,
)
from alterbute.bundle.edges import check_edges
from alterbute.bundle.engines import check_engines
from alterbute.bundle.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest, are_window_sides
from alterbute.bundle.signature import SIGNATURE_FILE
from alterbute.errors import BundleError

_EXPORT_AGAIN: Final = "export the bundle again with `alterbute-export bundle`"


def parse_manifest(text: bytes) -> Manifest:
    """Parse and check the bytes of a manifest.

    Raises:
        BundleError: the manifest is not JSON, has a newer schema, or a key is missing, unknown or wrong.
    """
    try:
        document = strict_json.parse_json(text)
    except ValueError as fault:
        raise BundleError(f"{MANIFEST_FILE} is not JSON ({fault})", "a JSON object", _EXPORT_AGAIN) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    # The version is checked first, because a manifest of another version may have other keys.
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        is_newer = version > SCHEMA_VERSION
        raise BundleError(
            f"the bundle has manifest schema {version}",
            f"{SCHEMA_VERSION}, the only one that this alterbute reads",
            "install a newer alterbute, or export the bundle again with this one" if is_newer else _EXPORT_AGAIN,
        )
    try:
        check_document(document)
        manifest = typed_json.build(Manifest, document)
        _check(manifest)
    except typed_json.KeyFault as fault:
        raise BundleError(
            f"{MANIFEST_FILE} key `{fault.key or '(top)'}` is {fault.seen}", fault.expected, _EXPORT_AGAIN
        ) from None
    return manifest


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a folder; a manifest that `parse_manifest` refuses is not written."""
    text = typed_json.dump(manifest)
    parse_manifest(text.encode())
    (Path(folder) / MANIFEST_FILE).write_text(text, encoding="utf-8", newline="\n")


def _check(manifest: Manifest) -> None:
    """Check values beyond their types."""
    check_limits(manifest)
    if manifest.mask.dilate % 2 == 0:
        raise typed_json.KeyFault("mask.dilate", str(manifest.mask.dilate), "an odd kernel size")
    if manifest.resolution % manifest.latent_factor:
        expected = f"a multiple of latent_factor {manifest.latent_factor}"
        raise typed_json.KeyFault("resolution", str(manifest.resolution), expected)
    _check_resolutions(manifest)
    _check_conditions(manifest)
    for name in (MANIFEST_FILE, SIGNATURE_FILE):
        if name in manifest.files:
            raise typed_json.KeyFault("files", f"the name {name!r}", "the other files of the bundle")
    check_edges(manifest)
    for name, graph in manifest.graphs.items():
        for variant in graph.variants:
            _check_file(f"graphs.{name}", variant.file, manifest, GRAPH_LIMIT_BYTES)
            if variant.prologue is not None:
                _check_file(f"graphs.{name}", variant.prologue, manifest, GRAPH_LIMIT_BYTES)
    if manifest.solver_table:
        _check_file("solver_table.file", manifest.solver_table.file, manifest, GRAPH_LIMIT_BYTES)
    check_engines(manifest.engines, manifest.files.keys(), manifest.graphs.keys())
    _check_profiles(manifest)
    _check_file("text.tokenizer", manifest.text.tokenizer, manifest, TOKENIZER_LIMIT_BYTES)


def _check_file(key: str, name: str, manifest: Manifest, most: int) -> None:
    entry = manifest.files.get(name)
    if entry is None:
        raise typed_json.KeyFault(key, repr(name), "a name listed in `files`")
    if entry.size > most:
        raise typed_json.KeyFault(key, f"{name!r} of {entry.size} bytes", f"at most {most}")


def _check_profiles(manifest: Manifest) -> None:
    """Check that every profile of an engine has the shapes of its graph's inputs."""
    for index, engine in enumerate(manifest.engines):
        ranks = {edge.name: len(edge.shape) for edge in manifest.graphs[engine.graph].inputs}
        for number, profile in enumerate(engine.profiles):
            if {name: len(shape.max) for name, shape in profile.items()} != ranks:
                key = f"engines[{index}].profiles[{number}]"
                raise typed_json.KeyFault(key, "of other inputs", f"one shape for each of {', '.join(ranks)}")


def _check_resolutions(manifest: Manifest) -> None:
    sides = manifest.resolutions
    is_valid = are_window_sides(sides, manifest.resolution) and not any(side % manifest.latent_factor for side in sides)
    if sides and not is_valid:
        expected = (
            f"rising multiples of latent_factor {manifest.latent_factor}, `resolution` {manifest.resolution} among them"
        )
        raise typed_json.KeyFault("resolutions", str(list(sides)), expected)
    if len(sides) > 1 and manifest.identity and manifest.identity.kind == "latent":
        raise typed_json.KeyFault("resolutions", str(list(sides)), "one, because the identity is a latent of that size")


def _check_conditions(manifest: Manifest) -> None:
    """Check the UNet's conditions: scene, identity, guidance and strength."""
    if bool(manifest.scene_channels) != bool(manifest.scene):
        raise typed_json.KeyFault("scene_channels", str(manifest.scene_channels), "0 exactly when `scene` is empty")
    times = len(manifest.time_ids) if manifest.time_ids is not None else 0
    if times != (TIME_IDS if manifest.text.pooled else 0) or (manifest.time_ids is not None and not times):
        raise typed_json.KeyFault("time_ids", f"{times} numbers", f"{TIME_IDS} exactly when `text.pooled` is above 0")
    if manifest.identity and len(manifest.identity.shape) != {"tokens": 2, "latent": 3}[manifest.identity.kind]:
        expected = "[Ti, D] for tokens, [C, h, w] for a latent"
        raise typed_json.KeyFault("identity.shape", str(list(manifest.identity.shape)), expected)
    cells = manifest.resolution // manifest.latent_factor
    if manifest.identity and manifest.identity.kind == "latent":
        expected_shape = (manifest.latent_channels, cells, cells)
        if manifest.identity.shape != expected_shape:
            seen = str(list(manifest.identity.shape))
            raise typed_json.KeyFault("identity.shape", seen, f"{list(expected_shape)}, a latent of the window")
    if (manifest.grid is not None) != (manifest.family == "grid"):
        raise typed_json.KeyFault(
            "grid", "missing" if manifest.grid is None else "given", "rules exactly for family grid"
        )
    interval = manifest.guidance.interval
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise typed_json.KeyFault(
            "guidance.interval", str(list(interval)), "two shares of the steps, rising, in [0, 1]"
        )
