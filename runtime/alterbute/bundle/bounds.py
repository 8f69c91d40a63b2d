"""Bounds of everything in a manifest that has a size: texts, lists, numbers, and the memory that numbers ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Final

from alterbute.bundle.manifest import FileEntry, Graph, Manifest, Text
from alterbute.bundle.strict_json import MAX_INTEGER, Json
from alterbute.bundle.typed_json import KeyFault
from alterbute.errors import is_printable

MAX_SIDE: Final = 8192
MAX_CHANNELS: Final = 512
MAX_WIDTH: Final = 65_536
MAX_TOKENS: Final = 4096
MAX_TOKEN_ID: Final = (1 << 20) - 1
GRAPH_LIMIT_BYTES: Final = 256 << 20
TOKENIZER_LIMIT_BYTES: Final = 16 << 20
STATE_ROWS: Final = 4
"""The only number of state rows that a step graph has; `alterbute.solver.STATE_ROWS`."""
TIME_IDS: Final = 6
SOLVER_NAMES: Final = (
    *("ddim", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc", "lcm", "plms"),
)
SPACINGS: Final = ("leading", "linspace", "trailing")
_MAX_TEXT: Final = 1024
_MAX_ITEMS: Final = 65_536
_MAX_TRAINED_BETAS: Final = 100_000
_MAX_COUNT: Final = 2**31 - 1
# Elements of a slot's latent, of its scene, and of one row's text or identity: with fp32 and two slots under 0.5 GB in all.
_MAX_LATENT: Final = 1 << 22
_MAX_SCENE: Final = 1 << 23
_MAX_CONDITION: Final = 1 << 22
_FILE_NAME: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BACKEND: Final = re.compile(r"[a-z0-9_-]{1,32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def check_document(document: Json) -> None:
    """Check texts and lists of a parsed manifest, before it is converted.

    Raises:
        KeyFault: a string or key is longer than 1,024 characters or not printable, or a list or object has too many items.
    """
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            check_text(key, value, _MAX_TEXT)
        elif isinstance(value, dict):
            check_count(key, len(value), _MAX_ITEMS)
            for name in value:
                check_text(key, name, _MAX_TEXT)
            waiting += ((f"{key}.{name}" if key else name, item) for name, item in value.items())
        elif isinstance(value, list):
            check_count(key, len(value), _MAX_TRAINED_BETAS if key == "scheduler.trained_betas" else _MAX_ITEMS)
            # Numbers, the most frequent items, are checked with their key, later.
            waiting += ((key, item) for item in value if isinstance(item, str | list | dict))


def check_text(key: str, text: str, most: int, least: int = 0) -> None:
    """Check the length of a text in characters, and that it can be shown on a terminal.

    Args:
        key: Dotted path of its key.
        text: The text.
        most: Most characters.
        least: Fewest characters.

    Raises:
        KeyFault: it is too long, too short, or holds control characters.
    """
    if not least <= len(text) <= most:
        raise KeyFault(key, f"a text of {len(text)} characters", f"{least} to {most} characters")
    if not is_printable(text):
        raise KeyFault(key, ascii(text[:40]), "text without control characters")


def check_count(key: str, count: int, most: int, least: int = 0) -> None:
    """Check the length of a list or object.

    Args:
        key: Dotted path of its key.
        count: Number of its items.
        most: Most items.
        least: Fewest items.

    Raises:
        KeyFault: there are more, or fewer.
    """
    if not least <= count <= most:
        raise KeyFault(key, "empty" if count == 0 else f"a list of {count}", f"{least} to {most} items")


def check_number(key: str, value: float, least: float, most: float) -> None:
    """Check that a number is in [least, most].

    Args:
        key: Dotted path of its key.
        value: The number, finite.
        least: The smallest that is accepted.
        most: The largest that is accepted.

    Raises:
        KeyFault: it is not.
    """
    if not least <= value <= most:
        raise KeyFault(
            key, f"{value:.10g}" if isinstance(value, float) else str(value), f"a number from {least:g} to {most:g}"
        )


def check_digest(key: str, digest: str) -> None:
    """Check a SHA-256 in hexadecimal.

    Raises:
        KeyFault: it is none.
    """
    if not _DIGEST.fullmatch(digest):
        raise KeyFault(key, repr(digest[:80]), "64 hexadecimal digits")


def check_limits(manifest: Manifest) -> None:
    """Check every number, count and name of a manifest against its bounds, and the memory that they lead to.

    Raises:
        KeyFault: one is out of bounds.
    """
    for key, value, least, most in _numbers(manifest):
        check_number(key, value, least, most)
    check_text("name", manifest.name, 128, 1)
    check_count("resolutions", len(manifest.resolutions), 64)
    check_count("detail.attributes", len(manifest.detail.attributes), 64)
    _check_names("defaults.solver", manifest.defaults.solver, SOLVER_NAMES)
    _check_names("defaults.spacing", manifest.defaults.spacing, SPACINGS)
    _check_memory(manifest)
    _check_vocabulary(manifest.attributes)
    _check_scheduler(manifest.scheduler)
    check_count("merged", len(manifest.merged), 256)
    for index, merged in enumerate(manifest.merged):
        check_number(f"merged[{index}].weight", merged.weight, -1000, 1000)
        check_digest(f"merged[{index}].sha256", merged.sha256)
        check_text(f"merged[{index}].file", merged.file, 255, 1)
        check_text(f"merged[{index}].token", merged.token or "-", 64)
    for name, graph in manifest.graphs.items():
        _check_graph(f"graphs.{name}", graph)
    check_files(manifest.files)
    for key, texts in (("producer", manifest.producer), ("checkpoint", manifest.checkpoint)):
        check_count(key, len(texts), 4096)
    for name, digest in manifest.checkpoint.items():
        check_digest(f"checkpoint.{name}", digest)
    if table := manifest.solver_table:
        check_number("solver_table.max_steps", table.max_steps, 1, 1000)
        check_count("solver_table.solvers", len(table.solvers), 32)
        for solver in table.solvers:
            _check_names("solver_table.solvers", solver, SOLVER_NAMES)
        _check_names("solver_table.spacing", table.spacing, SPACINGS)


def check_files(files: Mapping[str, FileEntry]) -> None:
    """Check names, sizes and digests of the files that a manifest lists.

    Raises:
        KeyFault: a name is not plain ASCII or more than one folder deep, or a digest or size is none.
    """
    check_count("files", len(files), 4096)
    for name, entry in files.items():
        if len(name) > 200 or not _FILE_NAME.fullmatch(name):
            raise KeyFault("files", f"the name {name[:80]!r}", "plain names, at most one folder deep")
        check_digest(f"files.{name}.sha256", entry.sha256)
        check_number(f"files.{name}.size", entry.size, 0, MAX_INTEGER)


def _numbers(manifest: Manifest) -> Iterator[tuple[str, float, float, float]]:
    """Key, value, least and most of every number that stands alone."""
    yield "resolution", manifest.resolution, 1, MAX_SIDE
    for side in manifest.resolutions:
        yield "resolutions", side, 1, MAX_SIDE
    yield "latent_factor", manifest.latent_factor, 1, 64
    yield "latent_channels", manifest.latent_channels, 1, MAX_CHANNELS
    yield "scene_channels", manifest.scene_channels, 0, MAX_CHANNELS
    yield "state_rows", manifest.state_rows, STATE_ROWS, STATE_ROWS
    yield "mask.dilate", manifest.mask.dilate, 1, 1023
    yield "mask.margin", manifest.mask.margin, 1, 100
    yield "detail.radius", manifest.detail.radius, 1, 1024
    yield "detail.ridge", manifest.detail.ridge, 1e-30, 1
    yield "detail.threshold", manifest.detail.threshold, 0, 1
    yield "guidance.scale", manifest.guidance.scale, 0, 100
    yield "guidance.identity", manifest.guidance.identity, 0, 100
    yield "guidance.rescale", manifest.guidance.rescale, 0, 1
    yield "defaults.steps", manifest.defaults.steps, 1, 1000
    yield "defaults.strength", manifest.defaults.strength, 1e-9, 1
    yield from _text_numbers(manifest.text)
    for number in manifest.time_ids or ():
        yield "time_ids", number, -1e6, 1e6
    if manifest.identity:
        yield "identity.size", manifest.identity.size, 1, MAX_SIDE
        for axis, size in enumerate(manifest.identity.shape):
            yield f"identity.shape[{axis}]", size, 1, MAX_WIDTH
    if manifest.grid:
        yield "grid.photo_fill", manifest.grid.photo_fill, -1, 1
        yield "grid.reference_fill", manifest.grid.reference_fill, -1, 1


def _text_numbers(text: Text) -> Iterator[tuple[str, float, float, float]]:
    yield "text.tokens", text.tokens, 3, MAX_TOKENS
    yield "text.dim", text.dim, 1, MAX_WIDTH
    yield "text.pooled", text.pooled, 0, MAX_WIDTH
    for name in ("start_id", "end_id", "pad_id"):
        yield f"text.{name}", getattr(text, name), 0, MAX_TOKEN_ID


def _check_memory(manifest: Manifest) -> None:
    cells = max(manifest.window_sides) // manifest.latent_factor
    sizes = {
        "latent_channels": (manifest.latent_channels * cells**2, _MAX_LATENT),
        "scene_channels": (manifest.scene_channels * cells**2, _MAX_SCENE),
        "text.dim": (manifest.text.tokens * manifest.text.dim, _MAX_CONDITION),
        "identity.shape": (prod(manifest.identity.shape) if manifest.identity else 0, _MAX_CONDITION),
    }
    for key, (count, most) in sizes.items():
        if count > most:
            raise KeyFault(key, f"of {count} numbers an image", f"at most {most}")


def _check_vocabulary(attributes: Mapping[str, tuple[str, ...]] | None) -> None:
    check_count("attributes", len(attributes or {}), 64)
    check_count("attributes", sum(len(values) for values in (attributes or {}).values()), 4096)
    for name, values in (attributes or {}).items():
        for text in (name, *values):
            check_text(f"attributes.{name[:64]}", text, 64, 1)


def _check_scheduler(config: Mapping[str, Json]) -> None:
    check_count("scheduler", len(config), 128)
    for name, value in config.items():
        for item in value if isinstance(value, list) else [value]:
            key = f"scheduler.{name}"
            if isinstance(item, list | dict):
                raise KeyFault(key, "nested", "a value, or a list of values")
            if isinstance(item, str):
                check_text(key, item, 128)
            elif item is not None:
                check_number(key, item, -1e9, 1e9)


def _check_graph(key: str, graph: Graph) -> None:
    check_count(f"{key}.variants", len(graph.variants), 32, 1)
    if graph.parity:
        check_number(f"{key}.parity.relative_error", graph.parity.relative_error, 0, 1e9)
    for variant in graph.variants:
        if not _BACKEND.fullmatch(variant.backend):
            raise KeyFault(f"{key}.variants", repr(variant.backend), "a backend such as onnxruntime")
        check_count(f"{key}.buckets", len(variant.buckets), 64)
        for bucket in variant.buckets:
            if not 1 <= bucket.slots <= bucket.rows <= 4096:
                seen = f"{bucket.slots} slots and {bucket.rows} rows"
                raise KeyFault(f"{key}.buckets", seen, "1 slot or more, and a row or more for each, at most 4096")
        check_number(f"{key}.variants.relative_error", variant.relative_error or 0, 0, 1e9)
        audit = variant.audit
        for count in (*variant.unfused.values(), *(audit.islands.values() if audit else ())):
            check_number(f"{key}.variants", count, 0, _MAX_COUNT)
        if audit:
            check_number(f"{key}.variants.audit.multiply_adds", audit.multiply_adds, 0, MAX_INTEGER)
            for share in audit.shares.values():
                check_number(f"{key}.variants.audit.shares", share, 0, 1.000001)


def _check_names(key: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise KeyFault(key, repr(name[:80]), f"one of {', '.join(names)}")
