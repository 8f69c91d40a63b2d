"""The content of `manifest.json`, the contract between the exporter, which writes it, and the runtimes, which read it.

Field names are the keys of the JSON. The meaning of a key does not change without a new `SCHEMA_VERSION`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from alterbute.bundle import typed_json
from alterbute.bundle.engines import Engine, VariantPrecision, check_engines
from alterbute.bundle.signature import SIGNATURE_FILE
from alterbute.bundle.typed_json import Json
from alterbute.errors import BundleError

SCHEMA_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.bin"
"""The external data file that all graphs share. It is passed to every ONNX Runtime session as bytes in memory: such a session
reads no external data from disk, so that a graph cannot refer to files outside the bundle."""
GRAPHS: Final = ("prompt", "identity", "scene", "step", "decode", "window", "paste")

_EXPORT_AGAIN: Final = "export the bundle again with `alterbute-export bundle`"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph; a dimension is a size, or the name of a free dimension (`"B"`)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeAudit:
    """The types of a graph file's convolutions, matrix products and attention, weighted by multiply-adds.

    Args:
        multiply_adds: Cost of one run at the bundle's resolution with one image and two rows.
        shares: Share of the multiply-adds by type; the shares sum to 1.
        islands: Number of inner operators that stay fp32, by reason.
        overflow: Values that exceed fp16's range on a real edit, with the measured magnitude.
    """

    multiply_adds: int
    shares: Mapping[str, float]
    islands: Mapping[str, int]
    overflow: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A file of a graph, for one backend and precision.

    Args:
        precision: Type of its convolutions, matrix products and attention.
        relative_error: Error of its outputs relative to those of the fp32 graph on a real edit; None if not measured.
        audit: The measured types; None for a variant that was not audited.
    """

    backend: str
    file: str
    precision: VariantPrecision = "fp32"
    relative_error: float | None = None
    audit: TypeAudit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Error of an exported graph relative to the torch model, measured at export."""

    relative_error: float
    against: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """An exported graph: its variants, its inputs and outputs, and its measured parity with torch."""

    variants: tuple[Variant, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """SHA-256 and size in bytes of a file."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRules:
    """How the mask and the window are enlarged.

    Args:
        dilate: Size of the dilation kernel in window pixels, odd.
        feather: Size of the blur kernel of the mask's edge in window pixels, odd.
        margin: Ratio of window side to object side.
    """

    dilate: int
    feather: int
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The forms of guidance that the checkpoint was trained for, and the defaults of an edit.

    Args:
        scale: Scale of text guidance; 1 turns it off.
        identity: Scale of identity guidance; 1 turns it off.
        rescale: How far the guided output is rescaled to the prompt row's standard deviation, 0..1.
        interval: (start, stop), shares of the steps in 0..1 between which guidance is on.
    """

    forms: tuple[Literal["none", "text", "identity"], ...]
    scale: float
    identity: float
    rescale: float
    interval: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Defaults of an edit. `strength` 1 starts from pure noise, a lower value from the noised photo (SDEdit)."""

    steps: int
    solver: str
    spacing: str
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The text encoder's window and widths.

    Args:
        tokens: T, number of ids per prompt, including start and end ids.
        dim: D, width of the text encoder's states.
        pooled: P, width of the pooled text that the UNet reads besides the states (SDXL); 0 if it reads none.
        tokenizer: Name of the tokenizer file.
        start_id, end_id, pad_id: Ids before and after every prompt, and in the rest of the window.
    """

    tokens: int
    dim: int
    pooled: int
    tokenizer: str
    start_id: int
    end_id: int
    pad_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity encoder, from a `size` x `size` picture to tokens `[Ti,D]` or, in family `grid`, a latent `[C,h,w]`."""

    kind: Literal["tokens", "latent"]
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverTable:
    """The file of solver matrices for 1..`max_steps` steps, in the format of `alterbute.solver.solver_table`."""

    file: str
    max_steps: int
    spacing: str
    solvers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRules:
    """Choices of family `grid` that its paper (arXiv 2601.10714, section 3.4) leaves open; all are built into the graphs.

    Args:
        blank: Content of the reference's half of mask and masked photo.
        null_identity: Latent of a dropped reference: zeros, or the encoded empty canvas.
        photo_fill, reference_fill: Value of the hole in the masked photo, and of the canvas around the reference, in [-1,1].
        mask: Which cells of the mask are 1.
    """

    blank: Literal["zeros"]
    null_identity: Literal["zeros", "encoded"]
    photo_fill: float
    reference_fill: float
    mask: Literal["object", "background"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A file that was merged into the weights at export; `token` is the word that an embedding adds to the tokenizer."""

    kind: Literal["lora", "embedding"]
    file: str
    sha256: str
    weight: float
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that a runtime reads of a bundle before it opens a graph. Lengths are in window pixels unless noted.

    Args:
        resolution: Side of the model's window; a multiple of `latent_factor`.
        resolutions: All sides of the window, rising, if there are several; `alterbute.images.choose_resolution` chooses.
        latent_channels: C, channels of a latent.
        latent_factor: Window pixels per side of a latent cell.
        scene_channels: Cs, the UNet's input channels besides the latent; 0 if `scene` is empty.
        state_rows: K, state rows of the step graph.
        latent_mask: How the mask is resized to latent cells.
        residual: "collage" adds `mask*reference + (1-mask)*masked_photo` to the UNet's output; None adds nothing.
        scene: The pictures that the UNet reads besides the latent, in channel order.
        reinject: Default of `EditRequest.reinject`.
        scheduler: The checkpoint's diffusers scheduler config, verbatim.
        time_ids: SDXL's size and crop numbers, the same for every row; None for other models.
        grid: Set for family `grid` only.
        attributes: The vocabulary: values by attribute; None is an open vocabulary.
        files: Every file of the bundle except the manifest and its signature.
        producer: Versions of the exporter and its libraries.
        checkpoint: SHA-256 of each weights file of the checkpoint, by `part/file name`.
        solver_table: Solver matrices for programs without solver code, or None.
    """

    schema_version: int
    name: str
    family: Literal["adapter", "grid", "instruct", "plain"]
    resolution: int
    resolutions: tuple[int, ...] = ()
    latent_channels: int
    latent_factor: int
    scene_channels: int
    state_rows: int
    latent_mask: Literal["area", "nearest"]
    residual: Literal["collage"] | None
    scene: tuple[Literal["mask", "masked_photo", "reference", "photo"], ...]
    reinject: bool
    mask: MaskRules
    scheduler: Mapping[str, Json]
    guidance: Guidance
    defaults: Defaults
    text: Text
    time_ids: tuple[float, ...] | None
    identity: Identity | None
    grid: GridRules | None = None
    attributes: Mapping[str, tuple[str, ...]] | None
    merged: tuple[Merged, ...] = ()
    graphs: Mapping[str, Graph]
    files: Mapping[str, FileEntry]
    producer: Mapping[str, str]
    checkpoint: Mapping[str, str]
    engines: tuple[Engine, ...] = ()
    solver_table: SolverTable | None = None

    @property
    def window_sides(self) -> tuple[int, ...]:
        """All sides of the model's window, rising."""
        return self.resolutions or (self.resolution,)


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
    # The version is checked first, because a newer manifest may have unknown keys.
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"the bundle has manifest schema {version}",
            f"at most {SCHEMA_VERSION}, the newest this alterbute reads",
            "install a newer alterbute, or export the bundle again with this one",
        )
    try:
        manifest = typed_json.build(Manifest, document)
        _check(manifest)
    except typed_json.KeyFault as fault:
        raise BundleError(
            f"{MANIFEST_FILE} key `{fault.key or '(top)'}` is {fault.seen}", fault.expected, _EXPORT_AGAIN
        ) from None
    return manifest


def are_window_sides(sides: tuple[int, ...], resolution: int) -> bool:
    """Whether these sides can be `resolutions`: positive, rising, and including `resolution`."""
    return resolution in sides and sides[0] > 0 and list(sides) == sorted(set(sides))


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
    for key, kernel in (("mask.dilate", manifest.mask.dilate), ("mask.feather", manifest.mask.feather)):
        if kernel % 2 == 0:
            raise typed_json.KeyFault(key, str(kernel), "an odd kernel size")
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
            if variant.file not in manifest.files:
                raise typed_json.KeyFault(f"graphs.{name}", repr(variant.file), "a name listed in `files`")
    required = set(GRAPHS) - (set() if manifest.identity else {"identity"})
    for name in sorted(required - manifest.graphs.keys()):
        raise typed_json.KeyFault(f"graphs.{name}", "missing", f"the graphs {', '.join(sorted(required))}")
    if manifest.solver_table and manifest.solver_table.file not in manifest.files:
        raise typed_json.KeyFault("solver_table.file", repr(manifest.solver_table.file), "a name listed in `files`")
    check_engines(manifest.engines, manifest.files.keys(), manifest.graphs.keys())
    if manifest.text.tokenizer not in manifest.files:
        raise typed_json.KeyFault("text.tokenizer", repr(manifest.text.tokenizer), "a name listed in `files`")


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
    numbers |= {"mask.dilate": manifest.mask.dilate, "mask.feather": manifest.mask.feather}
    numbers |= {"mask.margin": manifest.mask.margin, "defaults.steps": manifest.defaults.steps}
    numbers |= {"text.tokens": manifest.text.tokens, "text.dim": manifest.text.dim}
    if manifest.identity:
        numbers |= {f"identity.shape[{axis}]": size for axis, size in enumerate(manifest.identity.shape)}
        numbers |= {"identity.size": manifest.identity.size}
    return numbers
