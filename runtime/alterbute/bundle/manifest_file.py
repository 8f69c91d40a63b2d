"""Reading, checking and writing of `manifest.json`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from alterbute.bundle import typed_json
from alterbute.bundle.engines import check_engines
from alterbute.bundle.manifest import GRAPHS, MANIFEST_FILE, SCHEMA_VERSION, Manifest, Variant, are_window_sides
from alterbute.bundle.signature import SIGNATURE_FILE
from alterbute.errors import BundleError

_EXPORT_AGAIN: Final = "export the bundle again with `alterbute-export bundle`"


def parse_manifest(text: bytes) -> Manifest:
    """Parse and check the bytes of a manifest.

    Raises:
        BundleError: the manifest is not JSON, has a newer schema, or a key is missing, unknown or wrong.
    """
    try:
        document = typed_json.parse(text)
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
    for key, value in _positive_numbers(manifest).items():
        if value <= 0:
            raise typed_json.KeyFault(key, str(value), "a number above 0")
    if manifest.mask.dilate % 2 == 0:
        raise typed_json.KeyFault("mask.dilate", str(manifest.mask.dilate), "an odd kernel size")
    if not 0 <= manifest.detail.threshold <= 1:
        raise typed_json.KeyFault("detail.threshold", str(manifest.detail.threshold), "a number in [0, 1]")
    if manifest.resolution % manifest.latent_factor:
        expected = f"a multiple of latent_factor {manifest.latent_factor}"
        raise typed_json.KeyFault("resolution", str(manifest.resolution), expected)
    _check_resolutions(manifest)
    _check_conditions(manifest)
    for name, entry in manifest.files.items():
        if name in (MANIFEST_FILE, SIGNATURE_FILE) or not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name, re.ASCII):
            raise typed_json.KeyFault("files", f"the name {name!r}", "plain names, at most one folder deep")
        if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
            raise typed_json.KeyFault(f"files.{name}.sha256", repr(entry.sha256), "64 hexadecimal digits")
        if entry.size < 0:
            raise typed_json.KeyFault(f"files.{name}.size", str(entry.size), "a size in bytes")
    for name, graph in manifest.graphs.items():
        if name not in GRAPHS:
            raise typed_json.KeyFault(f"graphs.{name}", "an unknown graph", f"only {', '.join(GRAPHS)}")
        if not graph.variants:
            raise typed_json.KeyFault(f"graphs.{name}.variants", "empty", "at least one")
        for variant in graph.variants:
            _check_variant(f"graphs.{name}", variant, manifest)
    required = set(GRAPHS) - (set() if manifest.identity else {"identity"})
    for name in sorted(required - manifest.graphs.keys()):
        raise typed_json.KeyFault(f"graphs.{name}", "missing", f"the graphs {', '.join(sorted(required))}")
    if manifest.solver_table and manifest.solver_table.file not in manifest.files:
        raise typed_json.KeyFault("solver_table.file", repr(manifest.solver_table.file), "a name listed in `files`")
    check_engines(manifest.engines, manifest.files.keys(), manifest.graphs.keys())
    if manifest.text.tokenizer not in manifest.files:
        raise typed_json.KeyFault("text.tokenizer", repr(manifest.text.tokenizer), "a name listed in `files`")


def _check_variant(key: str, variant: Variant, manifest: Manifest) -> None:
    for file in (variant.file, variant.prologue):
        if file is not None and file not in manifest.files:
            raise typed_json.KeyFault(key, repr(file), "a name listed in `files`")
    for bucket in variant.buckets:
        if not 1 <= bucket.slots <= bucket.rows:
            seen = f"{bucket.slots} slots and {bucket.rows} rows"
            raise typed_json.KeyFault(f"{key}.buckets", seen, "1 slot or more, and a row or more for each")


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
    if manifest.scene_channels < 0 or bool(manifest.scene_channels) != bool(manifest.scene):
        raise typed_json.KeyFault("scene_channels", str(manifest.scene_channels), "0 exactly when `scene` is empty")
    if manifest.text.pooled < 0:
        raise typed_json.KeyFault("text.pooled", str(manifest.text.pooled), "a width, or 0 for none")
    if manifest.identity and len(manifest.identity.shape) != {"tokens": 2, "latent": 3}[manifest.identity.kind]:
        expected = "[Ti, D] for tokens, [C, h, w] for a latent"
        raise typed_json.KeyFault("identity.shape", str(list(manifest.identity.shape)), expected)
    if (manifest.grid is not None) != (manifest.family == "grid"):
        raise typed_json.KeyFault(
            "grid", "missing" if manifest.grid is None else "given", "rules exactly for family grid"
        )
    interval = manifest.guidance.interval
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise typed_json.KeyFault(
            "guidance.interval", str(list(interval)), "two shares of the steps, rising, in [0, 1]"
        )
    if not 0 <= manifest.guidance.rescale <= 1:
        raise typed_json.KeyFault("guidance.rescale", str(manifest.guidance.rescale), "a number in [0, 1]")
    if manifest.defaults.strength > 1:
        raise typed_json.KeyFault("defaults.strength", str(manifest.defaults.strength), "at most 1")


def _positive_numbers(manifest: Manifest) -> dict[str, float]:
    numbers: dict[str, float] = {
        name: getattr(manifest, name) for name in ("resolution", "latent_channels", "latent_factor", "state_rows")
    }
    numbers |= {"defaults.strength": manifest.defaults.strength}
    numbers |= {"mask.dilate": manifest.mask.dilate, "mask.margin": manifest.mask.margin}
    numbers |= {"detail.radius": manifest.detail.radius, "detail.ridge": manifest.detail.ridge}
    numbers |= {"defaults.steps": manifest.defaults.steps}
    numbers |= {"text.tokens": manifest.text.tokens, "text.dim": manifest.text.dim}
    if manifest.identity:
        numbers |= {f"identity.shape[{axis}]": size for axis, size in enumerate(manifest.identity.shape)}
        numbers |= {"identity.size": manifest.identity.size}
    return numbers
