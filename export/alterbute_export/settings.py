"""`alterbute.json`: what diffusers' checkpoint layout leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from alterbute.bundle import Defaults, MaskRules, typed_json

from alterbute_export.errors import CheckpointError

SETTINGS_FILE: Final = "alterbute.json"
SETTINGS_VERSION: Final = 1

Picture = Literal["mask", "masked_photo", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """How the image encoder wants its picture: `size` x `size`, RGB in [0,1] normalised by `mean` and `std`."""

    tokens: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceRules:
    """The guidance scale that an edit uses when the request names none."""

    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked content of `alterbute.json`.

    `scene` lists the pictures beside the latent in channel order, `masked_fill` is the hole's value in [-1,1],
    `residual` "collage" adds `mask*reference + (1-mask)*masked_photo` to the UNet's output; `input_gain` "signal" shows
    the UNet the latent times the signal scale of its timestep, so that pure noise is not seen at all.
    """

    schema_version: int
    name: str
    family: Literal["adapter", "grid", "instruct", "plain"]
    resolution: int
    scene: tuple[Picture, ...]
    latent_mask: Literal["area", "nearest"]
    masked_fill: float
    residual: Literal["collage"] | None
    input_gain: Literal["signal"] | None
    mask: MaskRules
    identity: IdentityRules
    guidance: GuidanceRules
    defaults: Defaults
    attributes: Mapping[str, tuple[str, ...]] | None


def read_settings(folder: Path) -> Settings:
    """Read and check `alterbute.json`.

    Raises:
        CheckpointError: the file is missing or not JSON, or a key is missing, unknown or wrong; the key is named.
    """
    path = folder / SETTINGS_FILE
    try:
        document = typed_json.parse(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"the checkpoint has no {SETTINGS_FILE}", "it beside model_index.json", "add it: it names family and scene"
        ) from None
    except ValueError as fault:
        raise CheckpointError(f"{SETTINGS_FILE} is not JSON ({fault})", "a JSON object", "correct the file") from None
    try:
        settings = typed_json.build(Settings, document)
        _check(settings)
    except typed_json.KeyFault as fault:
        raise CheckpointError(
            f"{SETTINGS_FILE} key `{fault.key or '(top)'}` is {fault.seen}", fault.expected, "correct the file"
        ) from None
    return settings


def scene_starts(settings: Settings, latent_channels: int) -> dict[str, int]:
    """First scene channel of each picture: a mask takes one channel, a picture as many as the latent."""
    starts: dict[str, int] = {}
    channel = 0
    for picture in settings.scene:
        starts[picture] = channel
        channel += 1 if picture == "mask" else latent_channels
    return starts


def scene_channels(settings: Settings, latent_channels: int) -> int:
    """Cs: all channels that the UNet sees beside the latent."""
    return sum(1 if picture == "mask" else latent_channels for picture in settings.scene)


def _check(settings: Settings) -> None:
    """What types alone cannot say."""
    if settings.schema_version != SETTINGS_VERSION:
        raise typed_json.KeyFault("schema_version", str(settings.schema_version), str(SETTINGS_VERSION))
    if len(set(settings.scene)) != len(settings.scene):
        raise typed_json.KeyFault("scene", ", ".join(settings.scene), "each picture once")
    missing = {"mask", "masked_photo", "reference"} - set(settings.scene)
    if settings.residual == "collage" and missing:
        expected = f"null, or {', '.join(sorted(missing))} in `scene`"
        raise typed_json.KeyFault("residual", '"collage"', expected)
    for key, kernel in (("mask.dilate", settings.mask.dilate), ("mask.feather", settings.mask.feather)):
        if kernel < 1 or kernel % 2 == 0:
            raise typed_json.KeyFault(key, str(kernel), "an odd kernel size, 1 or more")
    for key, values in (("identity.mean", settings.identity.mean), ("identity.std", settings.identity.std)):
        if len(values) != 3:
            raise typed_json.KeyFault(key, f"{len(values)} numbers", "3 numbers, for R, G and B")
    if min(settings.identity.std) <= 0:
        raise typed_json.KeyFault("identity.std", str(list(settings.identity.std)), "numbers above 0")
    if not -1 <= settings.masked_fill <= 1:
        raise typed_json.KeyFault("masked_fill", str(settings.masked_fill), "a number in [-1, 1]")
