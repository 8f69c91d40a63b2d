"""The content of `manifest.json`, the contract between the exporter, which writes it, and the runtimes, which read it.

Field names are the keys of the JSON. The meaning of a key does not change without a new `SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from alterbute.bundle.engines import Engine, VariantPrecision
from alterbute.bundle.strict_json import Json

SCHEMA_VERSION: Final = 4
MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.bin"
"""The external data file that all graphs share. It is passed to every ONNX Runtime session as bytes in memory: such a session
reads no external data from disk, so that a graph cannot refer to files outside the bundle."""
GRAPHS: Final = ("prompt", "identity", "scene", "step", "decode", "window", "paste", "paste16")


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
class LaunchShape:
    """A launch shape of the step graph: `slots` images in `rows` UNet rows."""

    slots: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A file of a graph, for one backend and precision.

    Args:
        prologue: File of a second graph, run when a row's conditions change: from inputs of the step graph it computes the
            inputs of `file` that are not among the graph's `inputs`, such as the keys and values of the cross-attentions.
            None for a variant that has all its arithmetic in `file`.
        buckets: Launch shapes that a backend pads to, rising; empty leaves the choice to the backend.
        is_deterministic: False where kernels add in an order that changes from run to run, as ONNX Runtime's group normalization
            does on CUDA: two runs of one request may then differ in their last bits.
        unfused: Number of operators that stayed as exported because a faster kernel's condition does not hold, by condition.
        precision: Type of its convolutions, matrix products and attention.
        relative_error: Error of its outputs relative to those of the fp32 graph on a real edit; None if not measured.
        audit: The measured types; None for a variant that was not audited.
    """

    backend: str
    file: str
    prologue: str | None = None
    buckets: tuple[LaunchShape, ...] = ()
    is_deterministic: bool = True
    unfused: Mapping[str, int] = field(default_factory=dict)
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
        margin: Ratio of window side to object side.
    """

    dilate: int
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailRules:
    """How the photo's detail is kept: numbers of the local colour map from the photo to the edit.

    Args:
        radius: Radius of the windows of the fit, in window pixels.
        ridge: Added to the diagonal of the fit's covariance, for colours in [0,1].
        threshold: T, the length of a residual in [0,1] from which the model's pixels are taken, for prompts that name only
            `attributes`; it is 0 for other prompts.
        attributes: Attributes whose edits keep the photo's detail, such as `color`.
    """

    radius: int
    ridge: float
    threshold: float
    attributes: tuple[str, ...]


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
    detail: DetailRules
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


def are_window_sides(sides: tuple[int, ...], resolution: int) -> bool:
    """Whether these sides can be `resolutions`: positive, rising, and including `resolution`."""
    return resolution in sides and sides[0] > 0 and list(sides) == sorted(set(sides))
