"""Writing results: lossless formats only; a file is written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from alterbute.errors import InputError
from alterbute.images.metadata.metadata import NO_METADATA, Metadata
from alterbute.images.output.encode_photo import Format, check_format, write_image, write_photo
from alterbute.images.photo import Photo

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS: Final[dict[str, Format]] = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}


def check_output(path: str | Path) -> Path:
    """Check an output path before any work is done for it.

    Raises:
        InputError: not .png, .webp, .tif or .tiff, a folder, or in a folder that is missing or not writable.
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        # JPEG would change every background pixel.
        raise InputError(
            f"the output {str(path)!r} ends in {target.suffix or 'nothing'!r}",
            "a lossless format, .png, .webp or .tif",
            "change the ending",
            "output",
            "output_format",
        )
    try:
        why = _find_obstacle(target)
    except (OSError, ValueError) as fault:  # such as a name that is too long, or a NUL in it
        why = getattr(fault, "strerror", None) or str(fault)
    if why is not None:
        raise _write_error(target, why)
    return target


def _find_obstacle(target: Path) -> str | None:
    """Why a path cannot be written; None if nothing is in the way."""
    if target.is_dir():
        return "it is a folder"
    if not target.parent.is_dir():
        return "its folder does not exist"
    if not os.access(target.parent, os.W_OK | os.X_OK):
        return "its folder is not writable"
    # Such as a device or a pipe, in whose place a plain file would be put.
    if target.exists() and not target.is_file():
        return "it exists and is no plain file"
    if target.exists() and not os.access(target, os.W_OK):
        return "it exists and is write-protected"
    return None


def check_output_holds(photo: Photo, path: str | Path) -> None:
    """Check that the format of an output path, which passed `check_output`, can hold an edit of a photo.

    Raises:
        InputError: the path ends in .webp, and the photo has 16 bits or a side over 16383 pixels.
    """
    check_format(photo.bits, photo.width, photo.height, _FORMATS[Path(path).suffix.lower()])


def save(image: Image, path: str | Path) -> Path:
    """Write a Pillow picture atomically: the path holds the whole picture, or what was there before.

    Raises:
        InputError: the path is refused by `check_output`, the format cannot hold the picture, or the file cannot be written.
    """
    return _write_whole(path, lambda file, format: write_image(file, image, format))


def save_photo(photo: Photo, path: str | Path, metadata: Metadata = NO_METADATA) -> Path:
    """Write a photo atomically, with its colour and the given metadata.

    Args:
        photo: The photo.
        path: Ends in .png, .webp, .tif or .tiff.
        metadata: What the file is to hold besides pixels and colour.

    Raises:
        InputError: the path is refused by `check_output`, the format cannot hold the photo, or the file cannot be written.
    """
    return _write_whole(path, lambda file, format: write_photo(file, photo, format, metadata))


def _write_whole(path: str | Path, write: Callable[[IO[bytes], Format], None]) -> Path:
    """Write beside the path, then move the file there; a file that cannot be finished is removed."""
    target = check_output(path)
    scratch = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".alterbute-", delete=False) as file:
            scratch = Path(file.name)
            write(file, _FORMATS[target.suffix.lower()])
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(target)
    except BaseException as fault:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        if isinstance(fault, OSError):
            raise _write_error(target, fault.strerror or str(fault)) from None
        raise
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_error(target: Path, why: str) -> InputError:
    return InputError(
        f"the output {str(target)!r} cannot be written: {why}",
        "a file path in a writable folder",
        "choose another path with -o",
        "output",
        "output_unwritable",
    )
