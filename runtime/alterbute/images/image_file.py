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
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alterbute.errors import InputError
from alterbute.images.header import has_damaged_chunk, read_header, store_pixels
from alterbute.images.photo import Bytes, Photo

if TYPE_CHECKING:
    from PIL.Image import Image

PictureSource: TypeAlias = "str | Path | bytes | Photo | Image | NDArray[np.uint8] | NDArray[np.bool_]"
"""A path, a file's bytes, a Photo, a Pillow image, or an array HW, HW3 or HW4 of uint8 in [0,255] (or bool HW)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """A decoded mask: HW uint8 luminance, and HW uint8 alpha where it has transparency. May share the caller's array."""

    luminance: Bytes
    alpha: Bytes | None = None


LevelSource: TypeAlias = "PictureSource | Levels"
_Planes: TypeAlias = tuple[Bytes, bytes | None]

MAX_PIXELS: Final = 24_000_000
MIN_SIDE: Final = 32
MAX_SIDE: Final = 8192
# An uncompressed RGBA picture of MAX_PIXELS, and room for its metadata.
MAX_FILE_BYTES: Final = 4 * MAX_PIXELS + (4 << 20)
_MAX_ICC_BYTES: Final = 1 << 20
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_ORIENTATION_TAG: Final = 0x0112
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
    planes, icc = _read_planes(source, param, keep_grey=False)
    if planes.ndim == 2:
        return Photo(pixels=np.repeat(planes[:, :, None], 3, axis=2), icc=icc)
    if planes.shape[2] == 3:
        # A copy, because the caller's array may change later; a read-only view where the caller promised that it will not.
        if isinstance(source, np.ndarray):
            planes = planes.view(np.ndarray) if is_borrowed else np.array(planes)
        return Photo(pixels=planes, icc=icc)
    return Photo(pixels=planes[:, :, :3].copy(), alpha=planes[:, :, 3].copy(), icc=icc)


def decode_levels(source: LevelSource, param: str) -> Levels:
    """Decode any accepted source to grey levels; a mask is not expanded to RGB, which would take three times the memory.

    Args:
        source: See `PictureSource`.
        param: Role of the picture, for error messages.

    Raises:
        InputError: see `decode`.
    """
    from PIL import Image

    if isinstance(source, Levels):
        return source
    if isinstance(source, Photo):
        colours, alpha = source.pixels, source.alpha
    else:
        planes, _ = _read_planes(source, param, keep_grey=True)
        if planes.ndim == 2:
            return Levels(luminance=planes)
        colours, alpha = planes[:, :, :3], planes[:, :, 3] if planes.shape[2] == 4 else None
    return Levels(luminance=np.asarray(Image.fromarray(colours).convert("L")), alpha=alpha)  # ITU-R BT.601


def _read_planes(source: object, param: str, *, keep_grey: bool) -> _Planes:
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _check_array(source, param), None
    if isinstance(source, Image.Image):
        return _from_pillow(source, param, keep_grey=keep_grey)
    data = source if isinstance(source, bytes) else _read_file(source, param)
    return _from_bytes(data, param, keep_grey=keep_grey)


def _read_file(path: object, param: str) -> bytes:
    if not isinstance(path, str | Path):
        raise InputError(
            f"the {param} is a {type(path).__name__}",
            "a path, bytes, a Pillow image or a uint8 array",
            f"pass the {param} as one of these",
            param,
            f"{param}_type",
        )
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


def _from_bytes(data: bytes, param: str, *, keep_grey: bool) -> _Planes:
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
    if header is None:
        what = "is empty" if not data else f"starts with {data[:8]!r}, which is no supported picture format"
        raise InputError(f"the {param} {what}", "a PNG, JPEG or WebP file", _SAVE_AS, param, f"{param}_not_an_image")
    _check_size(header.width, header.height, param)
    if header.bits > 8:
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
            return _from_pillow(image, param, keep_grey=keep_grey)
    except InputError:
        raise
    except Exception as fault:  # Pillow also raises ValueError, SyntaxError, struct.error...
        raise _damage_error(fault, param) from None


def _from_pillow(image: Image, param: str, *, keep_grey: bool) -> _Planes:
    from PIL.Image import Transpose

    _check_size(image.width, image.height, param)
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
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        raise _depth_error(f"mode {image.mode}, more than 8 bits per channel", param)
    if image.mode not in _MODES:
        raise _colour_error(image.mode, param)
    icc = _usable_profile(image.info.get("icc_profile"))
    transposition = _orientation(image)
    is_grey = keep_grey and image.mode in ("1", "L")
    mode = "RGBA" if image.has_transparency_data else "L" if is_grey else "RGB"
    try:
        image = image.convert(mode)
    except Exception as fault:  # an image that the caller opened is only now read from its file
        raise _damage_error(fault, param) from None
    if transposition is not None:
        image = image.transpose(Transpose(transposition))
    return np.asarray(image), icc


def _check_array(array: NDArray[np.generic], param: str) -> Bytes:
    """The array as uint8, HW, HW3 or HW4; the caller's own array where it has such a shape and dtype already."""
    if array.dtype == np.bool_ and array.ndim == 2:
        array = np.where(array, np.uint8(255), np.uint8(0))
    has_picture_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not has_picture_shape:
        raise InputError(
            f"the {param} is an array {array.dtype} {list(array.shape)}",
            "uint8 in [0,255] of shape [H,W], [H,W,3] or [H,W,4]",
            "scale it to 0..255 and convert it with .astype('uint8')",
            param,
            f"{param}_bad_array",
        )
    _check_size(array.shape[1], array.shape[0], param)
    return array.astype(np.uint8, copy=False)


def _check_size(width: int, height: int, param: str) -> None:
    if width * height <= MAX_PIXELS and min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE:
        return
    raise InputError(
        f"the {param} is {width}x{height} pixels",
        f"sides of {MIN_SIDE} to {MAX_SIDE} and at most {MAX_PIXELS // 1_000_000} megapixels",
        "crop or resize it",
        param,
        f"{param}_size_out_of_limits",
    )


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


def _orientation(image: Image) -> int | None:
    """The Pillow transposition that turns the stored picture upright, from its EXIF tag; None where none is needed."""
    from PIL.Image import Transpose as Turn

    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF is ignored, as viewers do
        return None
    turns = {
        2: Turn.FLIP_LEFT_RIGHT,
        3: Turn.ROTATE_180,
        4: Turn.FLIP_TOP_BOTTOM,
        5: Turn.TRANSPOSE,
        6: Turn.ROTATE_270,
        7: Turn.TRANSVERSE,
        8: Turn.ROTATE_90,
    }
    return turns.get(value) if isinstance(value, int) else None


def _usable_profile(icc: object) -> bytes | None:
    """The colour profile if its header is valid and it is for RGB (a grey profile would be wrong on the RGB result), else None."""
    if not isinstance(icc, bytes) or not 128 <= len(icc) <= _MAX_ICC_BYTES:
        return None
    is_valid = int.from_bytes(icc[:4], "big") == len(icc) and icc[36:40] == b"acsp" and icc[16:20] == b"RGB "
    return icc if is_valid else None
