"""Images that the caller opened with Pillow: one that is not yet loaded is a file, and is read as one; one that is loaded is pixels.

`PIL.Image.open` reads a header only. Pillow's later loading checks less than this package does, and rounds 16 bits to 8.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from alterbute.errors import InputError
from alterbute.images.files.header import read_header
from alterbute.images.files.pillow.pillow_pixels import read_orientation
from alterbute.images.files.pillow.strict_load import load_strictly
from alterbute.images.files.read_source import MAX_FILE_BYTES

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's names of the formats that this package reads itself, and its own names of them.
_FORMATS: Final = {name: name for name in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")} | {"MPO": "JPEG"}
_TAGS: Final = ("icc_profile", "exif", "xmp", "transparency")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """The file of an image that is not yet loaded.

    Args:
        data: Its bytes.
        is_changed: Whether the caller changed the image since it was opened, so that its own pixels or tags are meant.
    """

    data: bytes
    is_changed: bool


def read_opened_file(image: Image, param: str) -> OpenedFile | None:
    """Read the file of an image that is not yet loaded, and leave both as they were; None for pixels.

    Args:
        image: The image.
        param: Role of the picture.

    Raises:
        InputError: its file is closed, cannot be read, or is not the one that was opened.
    """
    from PIL.ImageFile import ImageFile

    # Image classes of other packages may do anything in `load`.
    if not isinstance(image, ImageFile) or not type(image).__module__.startswith("PIL."):
        return None
    file: Any = getattr(image, "fp", None)
    is_waiting = bool(image.tile) or getattr(image, "_im", None) is None
    if file is None or getattr(file, "closed", False):
        if is_waiting:
            raise _error(param, "whose file is closed", "load it before its file is closed, or pass its path")
        return None
    if image.format not in _FORMATS:
        return None
    try:
        at = file.tell()
        file.seek(0)
        try:
            data = file.read(MAX_FILE_BYTES + 1)
        finally:
            file.seek(at)
    except (OSError, ValueError, AttributeError) as fault:
        raise _error(param, f"whose file cannot be read ({fault})", "pass its path or its bytes") from None
    if image.format == "MPO" and image.tell():
        # Each picture of such a file is a JPEG of its own.
        data = data[image.tile[0][2] :] if image.tile else data
    header = read_header(data)
    is_draft = bool(image.decoderconfig)
    # Pillow gives the size of some turned pictures as it is shown.
    is_same = header is not None and header.format == _FORMATS[image.format] and (
        is_draft or header.refusal is not None or sorted(image.size) == sorted((header.width, header.height))
    )
    if not is_same:
        raise _error(param, "whose file has changed since it was opened", "open it again, or pass its path")
    return OpenedFile(data=data, is_changed=is_draft or _has_other_tags(image, data))


def _has_other_tags(image: Image, data: bytes) -> bool:
    """Whether profile, EXIF or transparency of an image are not those of its file."""
    try:
        with type(image)(io.BytesIO(data)) as again:  # type: ignore[call-arg]
            if again.mode != image.mode or any(again.info.get(name) != image.info.get(name) for name in _TAGS):
                return True
            # Pillow loads a PNG when it is asked for its EXIF.
            return image.format != "PNG" and read_orientation(again) != read_orientation(image)
    except Exception:  # the file is damaged, which its decoder reports
        return False


def count_frames(image: Image) -> int:
    """Pictures of an image; 1 where its file is closed and one of them is loaded."""
    # A JPEG with several frames comes from a camera: a preview, a depth map or a gain map follows the photo.
    if image.format in ("JPEG", "MPO"):
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except (ValueError, OSError, EOFError, AttributeError):
        return 1


def load_opened(image: Image) -> None:
    """Load the pixels of an image.

    Raises:
        Exception: of any type: pixels are missing or damaged.
    """
    from PIL.ImageFile import ImageFile

    if isinstance(image, ImageFile):
        load_strictly(image)
    else:
        image.load()


def _error(param: str, seen: str, fix: str) -> InputError:
    return InputError(
        f"the {param} is a Pillow image {seen}",
        "an image that is loaded, or one whose file is open",
        fix,
        param,
        f"{param}_unreadable",
    )
