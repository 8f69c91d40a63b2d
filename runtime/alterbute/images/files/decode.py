"""Decoding of untrusted picture files: every limit is checked before the memory that it guards is allocated.

Order: file size, magic bytes, the header parser of this package, side and pixel limits, depth; only then Pillow,
restricted to the header's format.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from alterbute.errors import InputError
from alterbute.images.arrays import MAX_PIXELS, check_array, check_size
from alterbute.images.color import profile_of_cicp
from alterbute.images.files.canvas import Planes, make_planes
from alterbute.images.files.header import read_header
from alterbute.images.files.header_type import Header, Refusal, TooComplexError
from alterbute.images.files.heif.coded_size import check_coded_sizes
from alterbute.images.files.heif.heif_pixels import decode_heif
from alterbute.images.files.jpeg.jpeg_markers import read_jpeg
from alterbute.images.files.jpeg.jpeg_pixels import decode_jpeg
from alterbute.images.files.pillow.bounded_exif import bound_jpeg_exif
from alterbute.images.files.pillow.opened_image import count_frames, load_opened, read_opened_file
from alterbute.images.files.pillow.pillow_pixels import (
    GREY_16_MODES,
    MODES,
    fill_from_16_bit_tiff,
    fill_from_pillow,
    open_picture,
    read_orientation,
)
from alterbute.images.files.png.png_chunks import read_png
from alterbute.images.files.png.png_pixels import fill_from_png
from alterbute.images.files.read_source import MAX_FILE_BYTES, read_file, read_stream
from alterbute.images.files.refusals import (
    damage_error,
    depth_error,
    format_error,
    frames_error,
    header_error,
)
from alterbute.images.files.tags import FileTags, read_tags
from alterbute.images.files.tiff.tiff_parts import check_tiff_parts
from alterbute.images.files.webp_chunks import check_webp
from alterbute.images.photo import Bytes, Photo, Pixels, to_8_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from PIL.Image import Image

PictureSource: TypeAlias = "str | Path | bytes | bytearray | memoryview | IO[bytes] | Photo | Image | NDArray[Any]"
"""A path, a file's bytes, an open file, a Photo, a Pillow image, or an array HW, HW3 or HW4: uint8 in [0,255], uint16 in [0,65535] (or
bool HW)."""


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
    """Levels, tags, the EXIF orientation 1..8 of the file, and whether the format is lossy."""

    planes: Planes
    tags: FileTags = field(default_factory=FileTags)
    orientation: int = 1
    is_lossy: bool = False


def decode(source: PictureSource, param: str, *, is_borrowed: bool = False) -> Photo:
    """Decode any accepted source to an upright picture, of 8 bits if it is a reference.

    Args:
        source: See `PictureSource`.
        param: Role of the picture (`photo`, `mask`, `reference`), for error messages.
        is_borrowed: An array is not changed while the picture is used, so that it need not be copied.

    Raises:
        InputError: missing, unreadable, of another format, depth or colour model, animated, cut, or out of limits.
    """
    is_cut = param == "reference"
    if isinstance(source, Photo):
        return source.to_8_bits() if is_cut else source
    decoded = _read_planes(source, param, is_mask=False)
    colors, alpha = decoded.planes.colors, decoded.planes.alpha
    if is_cut:
        colors, alpha = to_8_bits(colors), None if alpha is None else to_8_bits(alpha)
    if colors.ndim == 2:
        colors = _spread(colors)
    elif isinstance(source, np.ndarray):
        # Copies, because the caller's array may change later; a read-only view where the caller promised that it will not.
        colors = colors[:] if is_borrowed and alpha is None else colors.copy()
        alpha = None if alpha is None else alpha.copy()
    return Photo(
        pixels=colors,
        alpha=alpha,
        icc=decoded.tags.color.icc,
        orientation=decoded.orientation,
        color_chunks=decoded.tags.color.chunks,
        metadata=decoded.tags.metadata,
        warnings=tuple(f"{param}: {line}" for line in decoded.tags.color.warnings),
    )


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
        planes = Planes(colors=source.pixels, alpha=source.alpha)
    else:
        decoded = _read_planes(source, param, is_mask=True)
        planes, labels, is_lossy = decoded.planes, decoded.planes.labels, decoded.is_lossy
    colors, alpha = _cut_to_8_bits(planes.colors), None if planes.alpha is None else _cut_to_8_bits(planes.alpha)
    if colors.ndim == 2:
        return Levels(luminance=colors, alpha=alpha, labels=labels, is_lossy=is_lossy)
    is_grey = all(bool((colors[:, :, 0] == colors[:, :, channel]).all()) for channel in (1, 2))
    luminance = colors[:, :, 0] if is_grey else np.asarray(Image.fromarray(colors).convert("L"))  # ITU-R BT.601
    return Levels(
        luminance=luminance, alpha=alpha, colors=None if is_grey else colors, labels=labels, is_lossy=is_lossy
    )


def _cut_to_8_bits(levels: Pixels) -> Bytes:
    """The high bytes of 16-bit levels; 8-bit levels as they are."""
    high: Any = levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)
    return cast(Bytes, high)


def _spread(grey: Pixels) -> Pixels:
    """Grey HW as RGB HW3."""
    colors: Any = np.repeat(grey[:, :, None], 3, axis=2)
    return cast("Pixels", colors)


def _read_planes(source: object, param: str, *, is_mask: bool) -> _Decoded:
    from PIL import Image

    if isinstance(source, Image.Image):
        return _from_pillow(source, param, is_mask=is_mask)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), param, is_mask=is_mask)
    if isinstance(source, str | Path):
        return _from_bytes(read_file(source, param), param, is_mask=is_mask)
    if callable(getattr(source, "read", None)):
        return _from_bytes(read_stream(source, param), param, is_mask=is_mask)
    if hasattr(source, "__array__"):  # numpy's own arrays, torch tensors on the CPU
        array = check_array(np.asanyarray(source), param, is_mask=is_mask)
        has_alpha = array.ndim == 3 and array.shape[2] == 4
        colors, alpha = (array[:, :, :3], array[:, :, 3]) if has_alpha else (array, None)
        return _Decoded(planes=Planes(colors=colors, alpha=alpha))
    raise InputError(
        f"the {param} is a {type(source).__name__}",
        "a path, bytes, an open file, a Pillow image or an array",
        f"pass the {param} as one of these",
        param,
        f"{param}_type",
    )


def _from_bytes(data: bytes, param: str, *, is_mask: bool) -> _Decoded:
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
        raise format_error(data, param, is_mask=is_mask)
    if header.refusal is not None:
        raise header_error(header.refusal, param, is_mask=is_mask)
    check_size(header.width, header.height, param)
    if header.num_frames > 1:
        raise frames_error(header, header.num_frames, param)
    if header.cicp is not None and not is_mask:
        profile_of_cicp(header.cicp, param)  # HDR is refused by its name, before its depth is
    if header.bits > 8 and header.format not in ("PNG", "TIFF") and not is_mask:
        raise depth_error(header.bits, param)
    try:
        if header.format == "PNG":
            return _decode_png(data, header, param, is_mask=is_mask)
        if header.format == "JPEG":
            return _decode_jpeg(data, param, is_mask=is_mask)
        if header.format == "HEIC":
            planes, image, xmp = decode_heif(data, header, param)
            tags = FileTags() if is_mask else read_tags(image, param, cicp=header.cicp, xmp=xmp)
            return _Decoded(planes=planes, tags=tags, is_lossy=True)
        return _decode_with_pillow(data, header, param, is_mask=is_mask)
    except InputError:
        raise
    except TooComplexError as fault:
        raise header_error(Refusal.complex(str(fault)), param, is_mask=is_mask) from None
    except Exception as fault:  # Pillow also raises ValueError, SyntaxError, struct.error...
        raise damage_error(fault, param) from None


def _decode_png(data: bytes, header: Header, param: str, *, is_mask: bool) -> _Decoded:
    from PIL.PngImagePlugin import PngImageFile

    png = read_png(data, header)
    if png.num_frames > 1:
        raise frames_error(header, png.num_frames, param)
    with PngImageFile(io.BytesIO(png.stand_in)) as image:
        image.load()  # EXIF and texts may lie behind the pixels
        orientation = read_orientation(image)
        tags = FileTags() if is_mask else read_tags(image, param, chunks=png.color_chunks)
    planes = make_planes(
        (header.width, header.height),
        orientation,
        is_grey=is_mask and png.is_grey,
        has_alpha=png.has_alpha,
        has_labels=is_mask and png.color_type == 3,
        bits=_kept_bits(header, is_mask=is_mask, is_grey=png.color_type == 0 and not png.has_alpha),
    )
    fill_from_png(png, planes, orientation)
    return _Decoded(planes=_check_levels(planes, param, is_mask=is_mask), tags=tags, orientation=orientation)


def _decode_jpeg(data: bytes, param: str, *, is_mask: bool) -> _Decoded:
    from PIL.JpegImagePlugin import JpegImageFile

    file = read_jpeg(data)
    with JpegImageFile(io.BytesIO(bound_jpeg_exif(file.head))) as image:
        orientation = read_orientation(image)
        tags = FileTags() if is_mask else read_tags(image, param)
    planes = decode_jpeg(file, orientation=orientation, is_grey=is_mask)
    return _Decoded(planes=planes, tags=tags, orientation=orientation, is_lossy=True)


def _decode_with_pillow(data: bytes, header: Header, param: str, *, is_mask: bool) -> _Decoded:
    if header.format == "AVIF":
        check_coded_sizes(data)
    elif header.format == "WEBP":
        check_webp(data)
    with open_picture(data, header) as image:
        # Pillow turns TIFF pictures itself.
        orientation = read_orientation(image)
        is_turned = header.format == "TIFF" and orientation >= 5
        size = (header.height, header.width) if is_turned else (header.width, header.height)
        # Two parsers that disagree on the size mean a crafted file: the limits were checked on the other size.
        if image.size != size:
            raise OSError("its headers give two sizes")
        if header.format == "TIFF":
            check_tiff_parts(data, image, header.width, header.height)
        num_frames = int(getattr(image, "n_frames", 1)) if header.format in ("WEBP", "AVIF") else 1
        if num_frames > 1:
            raise frames_error(header, num_frames, param)
        tags = FileTags() if is_mask else read_tags(image, param, cicp=header.cicp)
        if header.format != "TIFF" or header.bits <= 8:
            planes = _copy_planes(image, param, is_mask=is_mask)
            if header.has_premultiplied_alpha and planes.alpha is not None and int(planes.alpha.min()) < 255:
                raise header_error(Refusal.premultiplied(), param, is_mask=is_mask)
            return _Decoded(planes=planes, tags=tags, orientation=orientation, is_lossy=header.is_lossy)
        has_alpha = image.mode == "RGBA"
    planes = make_planes(
        size,
        is_grey=is_mask and header.channels == 1,
        has_alpha=has_alpha,
        bits=_kept_bits(header, is_mask=is_mask, is_grey=header.channels == 1),
    )
    fill_from_16_bit_tiff(data, header, planes)
    if (
        header.has_premultiplied_alpha
        and planes.alpha is not None
        and int(planes.alpha.min()) < np.iinfo(planes.alpha.dtype).max
    ):
        raise header_error(Refusal.premultiplied(), param, is_mask=is_mask)
    return _Decoded(planes=_check_levels(planes, param, is_mask=is_mask), tags=tags, orientation=orientation)


def _kept_bits(header: Header, *, is_mask: bool, is_grey: bool) -> int:
    """Bits in which levels are kept: a grey mask's 16 bits may be labels, and are looked at before they are cut."""
    return 16 if header.bits == 16 and (is_grey or not is_mask) else 8


def _check_levels(planes: Planes, param: str, *, is_mask: bool) -> Planes:
    if not is_mask or planes.colors.dtype == np.uint8:
        return planes
    return Planes(colors=check_array(planes.colors, param, is_mask=True))


def _from_pillow(image: Image, param: str, *, is_mask: bool) -> _Decoded:
    """Take a picture that the caller opened or made."""
    check_size(image.width, image.height, param)
    opened = read_opened_file(image, param)
    if opened is not None:
        decoded = _from_bytes(opened.data, param, is_mask=is_mask)
        if not opened.is_changed:
            return decoded
    num_frames = count_frames(image)
    if num_frames > 1:
        raise InputError(
            f"the {param} is an animation of {num_frames} frames",
            "one still picture",
            "save one frame of it",
            param,
            f"{param}_animated",
        )
    if not is_mask and image.mode not in GREY_16_MODES and _is_cut_to_8_bits(image):
        refusal = Refusal.depth("16 bits per channel, of which Pillow gives the high ones only")
        raise header_error(replace(refusal, fix="pass its path or its bytes"), param, is_mask=False)
    first = read_orientation(image)
    tags = FileTags() if is_mask else read_tags(image, param)
    try:
        return _Decoded(
            planes=_copy_planes(image, param, is_mask=is_mask),
            tags=tags,
            orientation=first,
            is_lossy=image.format in ("JPEG", "MPO", "AVIF", "HEIF"),
        )
    except InputError:
        raise
    except Exception as fault:  # an image that the caller opened is only now read from its file
        raise damage_error(fault, param) from None


def _is_cut_to_8_bits(image: Image) -> bool:
    """Whether an image that is not yet loaded comes from a file of 16 bits."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()) if image.format in ("PNG", "TIFF"))


def _copy_planes(image: Image, param: str, *, is_mask: bool) -> Planes:
    """The levels of a picture of Pillow's, upright."""
    load_opened(image)
    if is_mask and image.mode in ("I", "F"):
        return Planes(colors=check_array(np.asarray(image), param, is_mask=True))
    if image.mode in ("I", "F"):
        raise header_error(Refusal.depth(f"levels of Pillow's mode {image.mode}"), param, is_mask=False)
    is_wide = image.mode in GREY_16_MODES
    if not is_wide and image.mode not in MODES:
        raise header_error(Refusal.colour(image.mode), param, is_mask=is_mask)
    # Read again: Pillow has turned a TIFF while it was loaded, and the EXIF of a PNG may lie behind its pixels.
    orientation = read_orientation(image)
    planes = make_planes(
        image.size,
        orientation,
        is_grey=is_mask and (is_wide or image.mode in ("1", "L", "LA")),
        has_alpha=not is_wide and image.has_transparency_data,
        has_labels=is_mask and image.mode == "P",
        bits=16 if is_wide else 8,
    )
    fill_from_pillow(image, planes, orientation)
    return _check_levels(planes, param, is_mask=is_mask)
