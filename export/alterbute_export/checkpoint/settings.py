"""Settings of a checkpoint: inferred from its configs, overridden key by key by `alterbute.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from alterbute.bundle import (
    Defaults,
    DetailRules,
    GridRules,
    Guidance,
    MaskRules,
    are_window_sides,
    strict_json,
    typed_json,
)

from alterbute_export.errors import CheckpointError

SETTINGS_FILE: Final = "alterbute.json"
TIME_IDS: Final = 6
"""Number of SDXL's time ids: original height and width, top and left of the crop, target height and width."""
SETTINGS_VERSION: Final = 1
_NESTED: Final = ("mask", "detail", "identity", "grid", "guidance", "defaults")

Picture = Literal["mask", "masked_photo", "reference", "photo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """Input of the image encoder, and the number of identity tokens made from it.

    Args:
        tokens: Identity tokens Ti.
        size: Side of the picture in pixels.
        mean: Mean of R, G and B, subtracted from pixels in [0,1].
        std: Standard deviation of R, G and B, by which pixels are then divided.
    """

    tokens: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """Settings of a checkpoint that are not in its weights.

    Args:
        schema_version: Version of the settings document, SETTINGS_VERSION.
        name: Name of the checkpoint, which becomes that of the bundle.
        family: How the UNet is conditioned.
        resolution: Side of the model's window in pixels.
        resolutions: All window sides that the checkpoint was trained for, ascending; empty for `resolution` alone.
        scene: Pictures that are concatenated to the latent, in channel order.
        latent_mask: How masks are reduced to the latent grid.
        masked_fill: Value of the hole in the masked photo, in [-1,1].
        residual: "collage" adds `mask*reference + (1-mask)*masked_photo` to the UNet's output; None adds nothing.
        input_gain: "signal" multiplies the UNet's latent input by the signal scale of its timestep, so that the input
            is zero where the latent is pure noise; None leaves it as it is.
        reinject: Whether the photo's latent replaces the kept cells after every step.
        mask: Growth and margin of the edited region.
        detail: How the photo's detail is kept.
        identity: Rules of the reference for family `adapter`, else None.
        grid: Rules of the reference for family `grid`, else None.
        time_ids: SDXL's six time ids for a UNet that takes them, else None.
        guidance: Forms of guidance and their default scales.
        defaults: Default steps, solver, spacing and strength.
        attributes: Words of the prompt by attribute, for a checkpoint that was trained on a vocabulary, else None.
    """

    schema_version: int
    name: str
    family: Literal["adapter", "grid", "instruct", "plain"]
    resolution: int
    resolutions: tuple[int, ...] = ()
    scene: tuple[Picture, ...]
    latent_mask: Literal["area", "nearest"]
    masked_fill: float
    residual: Literal["collage"] | None
    input_gain: Literal["signal"] | None
    reinject: bool
    mask: MaskRules
    detail: DetailRules
    identity: IdentityRules | None
    grid: GridRules | None
    time_ids: tuple[float, ...] | None
    guidance: Guidance
    defaults: Defaults
    attributes: Mapping[str, tuple[str, ...]] | None


def read_overrides(folder: Path) -> dict[str, Any]:
    """The unchecked content of `alterbute.json`; empty where the checkpoint has no such file.

    Raises:
        CheckpointError: the file is not a JSON object.
    """
    try:
        document = strict_json.parse_json((folder / SETTINGS_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as fault:
        raise CheckpointError(f"{SETTINGS_FILE} is not JSON ({fault})", "a JSON object", "correct the file") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{SETTINGS_FILE} holds a {type(document).__name__}", "a JSON object", "correct the file")
    return document


def build_settings(inferred: Mapping[str, Any], overrides: Mapping[str, Any]) -> CheckpointSettings:
    """Check and build the settings: `inferred`, overridden key by key by `overrides`.

    Raises:
        CheckpointError: a key is unknown or has an invalid value; the message names the key.
    """
    document = {**inferred, **overrides}
    for key in _NESTED:
        if isinstance(inferred.get(key), dict) and isinstance(overrides.get(key), dict):
            document[key] = {**inferred[key], **overrides[key]}
    try:
        settings = typed_json.build(CheckpointSettings, document)
        _check(settings)
    except typed_json.KeyFault as fault:
        raise CheckpointError(
            f"{SETTINGS_FILE} key `{fault.key or '(top)'}` is {fault.seen}", fault.expected, "correct the file"
        ) from None
    return settings


def scene_starts(settings: CheckpointSettings, latent_channels: int) -> dict[str, int]:
    """First scene channel of each picture, by name; a mask has one channel, other pictures as many as the latent."""
    starts: dict[str, int] = {}
    channel = 0
    for picture in settings.scene:
        starts[picture] = channel
        channel += 1 if picture == "mask" else latent_channels
    return starts


def scene_channels(settings: CheckpointSettings, latent_channels: int) -> int:
    """Scene channels Cs: the UNet's input channels beside the latent."""
    return sum(1 if picture == "mask" else latent_channels for picture in settings.scene)


def droppable_channels(settings: CheckpointSettings, latent_channels: int) -> tuple[int, ...]:
    """For each scene channel, 1 if `source_on` can zero it for a row (channels of reference and photo), else 0."""
    channels: list[int] = []
    for picture in settings.scene:
        width = 1 if picture == "mask" else latent_channels
        channels += [int(picture in ("reference", "photo"))] * width
    return tuple(channels)


def _check(settings: CheckpointSettings) -> None:
    """Check ranges and combinations of keys, which types alone cannot express."""
    if settings.schema_version != SETTINGS_VERSION:
        raise typed_json.KeyFault("schema_version", str(settings.schema_version), str(SETTINGS_VERSION))
    if len(set(settings.scene)) != len(settings.scene):
        raise typed_json.KeyFault("scene", ", ".join(settings.scene), "each picture once")
    sides = settings.resolutions
    if sides and not are_window_sides(sides, settings.resolution):
        raise typed_json.KeyFault(
            "resolutions", str(list(sides)), f"rising, `resolution` {settings.resolution} among them"
        )
    if len(sides) > 1 and settings.family == "grid":
        raise typed_json.KeyFault(
            "resolutions", str(list(sides)), "one for a grid, whose reference is a latent of that size"
        )
    missing = {"mask", "masked_photo", "reference"} - set(settings.scene)
    if settings.residual == "collage" and missing:
        expected = f"null, or {', '.join(sorted(missing))} in `scene`"
        raise typed_json.KeyFault("residual", '"collage"', expected)
    if settings.mask.dilate < 1 or settings.mask.dilate % 2 == 0:
        raise typed_json.KeyFault("mask.dilate", str(settings.mask.dilate), "an odd kernel size, 1 or more")
    if settings.detail.radius < 1:
        raise typed_json.KeyFault("detail.radius", str(settings.detail.radius), "1 or more")
    if settings.detail.ridge <= 0:
        raise typed_json.KeyFault("detail.ridge", str(settings.detail.ridge), "a number above 0")
    if not 0 <= settings.detail.threshold <= 1:
        raise typed_json.KeyFault("detail.threshold", str(settings.detail.threshold), "a number in [0, 1]")
    if not -1 <= settings.masked_fill <= 1:
        raise typed_json.KeyFault("masked_fill", str(settings.masked_fill), "a number in [-1, 1]")
    _check_family(settings)
    if settings.identity is not None:
        _check_identity(settings.identity)


def _check_family(settings: CheckpointSettings) -> None:
    for key, family, has_rules in (
        ("identity", "adapter", settings.identity is not None),
        ("grid", "grid", settings.grid is not None),
    ):
        if has_rules != (settings.family == family):
            value = "given" if has_rules else "null"
            raise typed_json.KeyFault(key, value, f"rules exactly for family {family}, and this is {settings.family}")
    if settings.family == "grid" and set(settings.scene) != {"mask", "masked_photo"}:
        raise typed_json.KeyFault(
            "scene", ", ".join(settings.scene) or "empty", "mask and masked_photo for family grid"
        )
    if settings.grid is not None and settings.grid.photo_fill != settings.masked_fill:
        raise typed_json.KeyFault(
            "grid.photo_fill", str(settings.grid.photo_fill), f"masked_fill, {settings.masked_fill}"
        )
    if settings.family == "instruct" and "photo" not in settings.scene:
        raise typed_json.KeyFault("scene", ", ".join(settings.scene) or "empty", "photo for family instruct")
    if settings.grid is not None:
        for key, fill in (("photo_fill", settings.grid.photo_fill), ("reference_fill", settings.grid.reference_fill)):
            if not -1 <= fill <= 1:
                raise typed_json.KeyFault(f"grid.{key}", str(fill), "a number in [-1, 1]")


def _check_identity(rules: IdentityRules) -> None:
    for key, values in (("identity.mean", rules.mean), ("identity.std", rules.std)):
        if len(values) != 3:
            raise typed_json.KeyFault(key, f"{len(values)} numbers", "3 numbers, for R, G and B")
    if min(rules.std) <= 0:
        raise typed_json.KeyFault("identity.std", str(list(rules.std)), "numbers above 0")
