"""Calibration edits: the photos, masks, references and prompts that int8 scales are measured on, listed in a TOML file.

[[edit]]
photo = "mug.jpg"               # paths are relative to the file
mask = "mug-mask.png"
prompt = "material: brushed metal"
reference = "mug-side.jpg"      # optional; without it the masked object of the photo
seed = 7                        # optional
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alterbute.bundle import Bundle
from alterbute.encode.prompt import first_prompts
from PIL import Image

from alterbute_export.checks.recorded_edit import read_sample_pictures
from alterbute_export.errors import CalibrationError

_KEY_TYPES: Final[dict[str, type]] = {"photo": str, "mask": str, "prompt": str, "reference": str, "seed": int}
_FIX: Final = "see the format in docs/precision.md"
_REQUIRED: Final = ("photo", "mask", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationEdit:
    """Arguments of one `Editor.edit`. A `reference` of None is the masked object of the photo."""

    photo: Path | Image.Image
    mask: Path | Image.Image
    prompt: str
    reference: Path | None = None
    seed: int = 7


def read_edits(path: Path) -> list[CalibrationEdit]:
    """Read a TOML file of edits.

    Raises:
        CalibrationError: the file or one of its pictures is missing, or an entry does not have the format.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise CalibrationError(
            f"{path} cannot be read ({fault.strerror})", "a TOML file of [[edit]] entries", _FIX
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise CalibrationError(f"{path} is not TOML ({fault})", "a TOML file of [[edit]] entries", _FIX) from None
    entries = document.get("edit")
    if not isinstance(entries, list) or not entries or set(document) != {"edit"}:
        raise CalibrationError(
            f"{path} has the keys {sorted(document)}", "one or more [[edit]] entries and nothing else", _FIX
        )
    return [_read_entry(path, number, entry) for number, entry in enumerate(entries)]


def default_edits(bundle: Bundle) -> list[CalibrationEdit]:
    """One edit of the sample photo for every value of the first attribute: little variety, for want of real edits.

    A bundle without a sample photo gets a drawn one.
    """
    photo, mask = read_sample_pictures(bundle)
    prompts = first_prompts(bundle.manifest.attributes) or ("color: red",)
    return [CalibrationEdit(photo=photo, mask=mask, prompt=prompt, seed=seed) for seed, prompt in enumerate(prompts)]


def _read_entry(path: Path, number: int, entry: Any) -> CalibrationEdit:
    where = f"{path}, edit {number + 1}"
    if not isinstance(entry, dict):
        raise CalibrationError(f"{where} is {entry!r}", "a table", _FIX)
    missing, unknown = [key for key in _REQUIRED if key not in entry], sorted(set(entry) - set(_KEY_TYPES))
    if missing or unknown:
        fault = f"no {missing[0]}" if missing else f"the key {unknown[0]!r}"
        raise CalibrationError(f"{where} has {fault}", f"{', '.join(_REQUIRED)}, optionally reference and seed", _FIX)
    for key, value in entry.items():
        if type(value) is not _KEY_TYPES[key]:
            raise CalibrationError(f"{where}: {key} is {value!r}", f"a value of type {_KEY_TYPES[key].__name__}", _FIX)
    pictures = {key: path.parent / entry[key] for key in ("photo", "mask", "reference") if key in entry}
    for key, picture in pictures.items():
        if not picture.is_file():
            raise CalibrationError(
                f"{where}: {key} {picture} is not there",
                "a picture file",
                "correct the path; it is relative to the TOML file",
            )
    return CalibrationEdit(**pictures, prompt=entry["prompt"], seed=entry.get("seed", 7))
