"""Writing results: lossless formats only; a file is written completely or not at all."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alterbute.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_LARGE_PIXELS: Final = 1 << 20
_FORMATS: Final = {".png": "PNG", ".webp": "WEBP"}


def check_output(path: str | Path) -> Path:
    """Check an output path before any work is done for it.

    Raises:
        InputError: not .png or .webp, a folder, or in a folder that is missing or not writable.
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        # JPEG would change every background pixel.
        raise InputError(
            f"the output {str(path)!r} ends in {target.suffix or 'nothing'!r}",
            "a lossless format, .png or .webp",
            "change the ending",
            "output",
            "output_format",
        )
    if target.is_dir():
        raise _write_error(target, "it is a folder")
    if not target.parent.is_dir():
        raise _write_error(target, "its folder does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise _write_error(target, "its folder is not writable")
    if target.exists() and not os.access(target, os.W_OK):
        raise _write_error(target, "it exists and is write-protected")
    return target


def encode(image: Image, format: str = "PNG") -> bytes:
    """Encode a Pillow picture as PNG or lossless WebP bytes, with its colour profile and no other metadata."""
    buffer = io.BytesIO()
    # exact: lossless WebP would otherwise drop the colours under transparent pixels. A large PNG at zlib's usual level takes
    # seconds, three times as long as level 1, for files that are a tenth smaller.
    is_large = image.width * image.height > _LARGE_PIXELS
    options = {"lossless": True, "exact": True} if format == "WEBP" else {"compress_level": 1 if is_large else 6}
    image.save(buffer, format, icc_profile=image.info.get("icc_profile"), **options)
    return buffer.getvalue()


def save(image: Image, path: str | Path) -> Path:
    """Write a picture atomically: the path holds the whole picture, or what was there before.

    Raises:
        InputError: the path is refused by `check_output`, or the file cannot be written.
    """
    target = check_output(path)
    data = encode(image, _FORMATS[target.suffix.lower()])
    scratch = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".alterbute-", delete=False) as file:
            scratch = Path(file.name)
            file.write(data)
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(target)
    except OSError as fault:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise _write_error(target, fault.strerror or str(fault)) from None
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


def save_photo(photo, path, metadata=None):  # STUB
    return save(photo.to_pil(), path)
