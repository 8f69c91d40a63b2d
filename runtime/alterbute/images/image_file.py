"""Decoding of untrusted picture files: every limit is checked before the memory that it guards is allocated.

Order: file size, magic bytes, the header parser of this package, side and pixel limits, depth; only then Pillow,
restricted to the header's format.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from alterbute.errors import InputError
from alterbute.images.arrays import MAX_PIXELS, check_array, check_size
from alterbute.images.header import has_damaged_chunk, read_header, store_pixels
from alterbute.images.photo import Bytes, Photo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from PIL.Image import Image

PictureSource: TypeAlias = "str | Path | bytes | bytearray | memoryview | IO[bytes] | Photo | Image | NDArray[Any]"
"""A path, a file's bytes, an open file, a Photo, a Pillow image, or an array HW, HW3 or HW4 of uint8 in [0,255] (or bool HW)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """A decoded mask. May share the caller's array.

    Args:
        luminance: HW uint8.
        alpha: HW uint8, 255 = opaque; None where the mask has no transparency.
        colors: HW3 uint8 RGB; None where all pixels are grey.
        labels: HW uint8, the palette's indices of a picture with a palette, else None.
        is_lossy: Whether the levels hold the errors of a lossy format, so that they are no coverage.
    """

    luminance: Bytes
    alpha: Bytes | None = None
    colors: Bytes | None = None
    labels: Bytes | None = None
    is_lossy: bool = False

    def channels(self) -> tuple[Bytes, ...]:
        """R, G and B, HW uint8 each."""
        return (self.luminance,) * 3 if self.colors is None else tuple(np.moveaxis(self.colors, 2, 0))


LevelSource: TypeAlias = "PictureSource | Levels | Mapping[str, object]"
"""A picture, a decoded mask, or an annotation; see `alterbute.images.masks.annotations`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Decoded:
    """Planes HW, HW3 or HW4 uint8, colour profile, EXIF orientation 1..8, palette indices, and whether the format is lossy."""

    planes: Bytes
    icc: bytes | None = None
    orientation: int = 1
    labels: Bytes | None = None
    is_lossy: bool = False


# An uncompressed RGBA picture of MAX_PIXELS, and room for its metadata.
MAX_FILE_BYTES: Final = 4 * MAX_PIXELS + (4 << 20)
_MAX_ICC_BYTES: Final = 1 << 20
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_ORIENTATION_TAG: Final = 0x0112
_MASK_FORMATS: Final = ["BMP", "GIF", "TIFF"]
_SAVE_AS: Final = "save it as an 8-bit RGB PNG, JPEG or WebP"


def decode(source: PictureSource, param: str, *, is_borrowed: bool = False) -> Photo:
    """Decode any accepted source to an upright picture.

    Args:
        source: See `PictureSource`.
        param: Role of the picture (`photo`, `mask`, `reference`), for error messages.
        is_borrowed: An array is not changed while the picture is used, so that it need not be copied.

    Raises:
        InputError: missing, unreadable, of another format, depth or colour model, animated, cut, or out of limits.
    """
    if isinstance(source, Photo):
        return source
    decoded = _read_planes(source, param, is_mask=False)
    planes, icc, orientation = decoded.planes, decoded.icc, decoded.orientation
    if planes.ndim == 2:
        return Photo(pixels=np.repeat(planes[:, :, None], 3, axis=2), icc=icc, orientation=orientation)
    if planes.shape[2] == 3:
        # A copy, because the caller's array may change later; a read-only view where the caller promised that it will not.
        if isinstance(source, np.ndarray):
            planes = planes.view(np.ndarray) if is_borrowed else np.array(planes)
        return Photo(pixels=planes, icc=icc, orientation=orientation)
    return Photo(pixels=planes[:, :, :3].copy(), alpha=planes[:, :, 3].copy(), icc=icc, orientation=orientation)


def decode_levels(source: LevelSource, param: str) -> Levels:
    """Decode any accepted source to grey levels; a mask is not expanded to RGB, which would take three times the memory.

    Args:
        source: See `PictureSource`.
        param: Role of the picture, for error messages.

    Raises:
        InputError: see `decode`.
    """
    from PIL import Image

    labels, is_lossy = None, False
    if isinstance(source, Levels):
        return source
    if isinstance(source, Photo):
        colors, alpha = source.pixels, source.alpha
    else:
        decoded = _read_planes(source, param, is_mask=True)
        planes, labels, is_lossy = decoded.planes, decoded.labels, decoded.is_lossy
        if planes.ndim == 2:
            return Levels(luminance=planes, labels=labels, is_lossy=is_lossy)
        colors, alpha = planes[:, :, :3], planes[:, :, 3] if planes.shape[2] == 4 else None
    is_grey = all(bool((colors[:, :, 0] == colors[:, :, channel]).all()) for channel in (1, 2))
    luminance = colors[:, :, 0] if is_grey else np.asarray(Image.fromarray(colors).convert("L"))  # ITU-R BT.601
    return Levels(
        luminance=luminance, alpha=alpha, colors=None if is_grey else colors, labels=labels, is_lossy=is_lossy
    )


def _read_planes(source: object, param: str, *, is_mask: bool) -> _Decoded:
    from PIL import Image

    if isinstance(source, Image.Image):
        return _from_pillow(source, param, is_mask=is_mask)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), param, is_mask=is_mask)
    if isinstance(source, str | Path):
        return _from_bytes(_read_file(source, param), param, is_mask=is_mask)
    if callable(getattr(source, "read", None)):
        return _from_bytes(_read_stream(source, param), param, is_mask=is_mask)
    if hasattr(source, "__array__"):  # numpy's own arrays, torch tensors on the CPU
        return _Decoded(planes=check_array(np.asarray(source), param, is_mask=is_mask))
    raise InputError(
        f"the {param} is a {type(source).__name__}",
        "a path, bytes, an open file, a Pillow image or an array",
        f"pass the {param} as one of these",
        param,
        f"{param}_type",
    )


def _read_stream(file: object, param: str) -> bytes:
    """The bytes of an open file from its start, or from where it stands if it cannot seek."""
    try:
        if callable(getattr(file, "seek", None)):
            file.seek(0)  # type: ignore[attr-defined]
        data = file.read(MAX_FILE_BYTES + 1)  # type: ignore[attr-defined]
    except (OSError, ValueError) as fault:
        raise _path_error("file", param, f"cannot be read ({fault})") from None
    if not isinstance(data, bytes):
        raise InputError(
            f"the {param} is a file that is open for text",
            "a file that is open for bytes",
            'open it with mode "rb"',
            param,
            f"{param}_type",
        )
    return data


def _read_file(path: str | Path, param: str) -> bytes:
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as fault:
        raise _path_error(path, param, f"cannot be read ({getattr(fault, 'strerror', None) or fault})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _path_error(path, param, "is not a file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _path_error(path: str | Path, param: str, why: str) -> InputError:
    return InputError(
        f"the {param} {str(path)!r} {why}", "a PNG, JPEG or WebP file", "check the path", param, f"{param}_unreadable"
    )


def _from_bytes(data: bytes, param: str, *, is_mask: bool) -> _Decoded:
    from PIL import Image

    if len(data) > MAX_FILE_BYTES:
        raise InputError(
            f"the {param} file is over {MAX_FILE_BYTES >> 20} MiB",
            f"at most that, the size of {MAX_PIXELS // 1_000_000} uncompressed megapixels",
            "save it smaller",
            param,
            f"{param}_too_large",
        )
    header = read_header(data)
    if header is None and is_mask:
        return _read_other_format(data, param)
    if header is None:
        raise _format_error(data, param, "a PNG, JPEG or WebP file", _SAVE_AS)
    check_size(header.width, header.height, param)
    if header.bits > 8 and not is_mask:
        raise _depth_error(f"{header.bits} bits per channel", param)
    if header.format == "JPEG" and header.channels == 4:
        raise _colour_error("CMYK", param)
    try:
        if header.format == "PNG" and has_damaged_chunk(data):
            raise OSError("a checksum is wrong")
        stored = store_pixels(data, header) if header.format == "PNG" else data
        if stored is None:
            raise OSError("its pixels are truncated")
        with Image.open(io.BytesIO(stored), formats=[header.format]) as image:
            # Two parsers that disagree on the size mean a crafted file: the limits were checked on the other size.
            if image.size != (header.width, header.height):
                raise OSError("its headers give two sizes")
            return _from_pillow(image, param, is_mask=is_mask)
    except InputError:
        raise
    except Exception as fault:  # Pillow also raises ValueError, SyntaxError, struct.error...
        raise _damage_error(fault, param) from None


def _read_other_format(data: bytes, param: str) -> _Decoded:
    """Decode a mask of a format that photos may not have: its pixels are not part of the result."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_MASK_FORMATS) as image:
            return _from_pillow(image, param, is_mask=True)
    except InputError:
        raise
    except UnidentifiedImageError:
        expected = "a PNG, JPEG, WebP, BMP, GIF or TIFF file"
        raise _format_error(data, param, expected, "save it as an 8-bit PNG") from None
    except Exception as fault:
        raise _damage_error(fault, param) from None


def _from_pillow(image: Image, param: str, *, is_mask: bool) -> _Decoded:
    from PIL import Image as Pillow

    check_size(image.width, image.height, param)
    # A JPEG with several frames comes from a camera: a preview, a depth map or a gain map follows the photo.
    num_frames = 1 if image.format in ("JPEG", "MPO") else int(getattr(image, "n_frames", 1))
    if num_frames > 1:
        raise InputError(
            f"the {param} is an animation of {num_frames} frames",
            "one still picture",
            "save one frame of it",
            param,
            f"{param}_animated",
        )
    if is_mask and image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        return _Decoded(planes=check_array(np.asarray(image), param, is_mask=True))
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        raise _depth_error(f"mode {image.mode}, more than 8 bits per channel", param)
    if image.mode not in _MODES:
        raise _colour_error(image.mode, param)
    icc = _usable_profile(image.info.get("icc_profile"))
    orientation = _read_orientation(image)
    is_grey = is_mask and image.mode in ("1", "L")
    is_lossy = image.format in ("JPEG", "MPO")
    mode = "RGBA" if image.has_transparency_data else "L" if is_grey else "RGB"
    labels = None
    try:
        if is_mask and image.mode == "P":
            indices = Pillow.frombytes("L", image.size, image.tobytes())
            labels = np.asarray(_turn_upright(indices, orientation))
        upright = _turn_upright(image.convert(mode), orientation)
    except Exception as fault:  # an image that the caller opened is only now read from its file
        raise _damage_error(fault, param) from None
    return _Decoded(planes=np.asarray(upright), icc=icc, orientation=orientation, labels=labels, is_lossy=is_lossy)


def _format_error(data: bytes, param: str, expected: str, fix: str) -> InputError:
    what = "is empty" if not data else f"starts with {data[:8]!r}, which is no supported picture format"
    return InputError(f"the {param} {what}", expected, fix, param, f"{param}_not_an_image")


def _damage_error(fault: Exception, param: str) -> InputError:
    is_cut = "truncated" in str(fault).lower()
    # Pillow's message names an in-memory file by its address, which does not help a user.
    detail = "" if "<" in str(fault) else f" ({fault})"
    seen = f"the {param} is truncated" if is_cut else f"the {param} is damaged{detail}"
    return InputError(seen, "a complete picture file", "copy or save the file again", param, f"{param}_undecodable")


def _depth_error(seen: str, param: str) -> InputError:
    # Pillow would round 16 bits to 8 without a warning, and the background would no longer equal the photo.
    return InputError(f"the {param} has {seen}", "8 bits per channel", _SAVE_AS, param, f"{param}_bit_depth")


def _colour_error(mode: str, param: str) -> InputError:
    return InputError(f"the {param} is in {mode} colour", "RGB or grey", _SAVE_AS, param, f"{param}_colour_model")


def _read_orientation(image: Image) -> int:
    """EXIF orientation 1..8; 1, upright, where there is none."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF is ignored, as viewers do
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turn_upright(image: Image, orientation: int) -> Image:
    """The picture as viewers show it."""
    from PIL.Image import Transpose as Turn

    turns = {
        2: Turn.FLIP_LEFT_RIGHT,
        3: Turn.ROTATE_180,
        4: Turn.FLIP_TOP_BOTTOM,
        5: Turn.TRANSPOSE,
        6: Turn.ROTATE_270,
        7: Turn.TRANSVERSE,
        8: Turn.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _usable_profile(icc: object) -> bytes | None:
    """The colour profile if its header is valid and it is for RGB (a grey profile would be wrong on the RGB result), else None."""
    if not isinstance(icc, bytes) or not 128 <= len(icc) <= _MAX_ICC_BYTES:
        return None
    is_valid = int.from_bytes(icc[:4], "big") == len(icc) and icc[36:40] == b"acsp" and icc[16:20] == b"RGB "
    return icc if is_valid else None
