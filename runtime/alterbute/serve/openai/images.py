"""A request's pictures: sizes are read from headers and memory is reserved before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from alterbute.images import MaskKind, MaskValue, Photo, Polarity, Region, load_photo, load_reference, load_region
from alterbute.images.files.decode import Levels
from alterbute.images.files.format_names import FORMATS, name_format
from alterbute.images.files.header import read_header
from alterbute.images.photo import Bytes
from alterbute.serve.decoding.decoder_process import DecoderProcess
from alterbute.serve.decoding.job_limits import PictureSize
from alterbute.serve.http.error_response import ApiError
from alterbute.serve.http.limits import Reservation
from alterbute.serve.http.request_body import Source

# Peak bytes per pixel of decoding, editing and encoding, with 8 bits; levels of 16 bits take twice that. The photo's are its own
# levels, the result, its file, and the response with the file in base64; a mask's are its levels, its coverage and the region's planes.
_BYTES_PER_PIXEL: Final = {"image": 20, "reference": 8}
_MASK_BYTES_PER_PIXEL: Final = 4
_MAX_ASPECT: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """The decoded pictures of a request.

    Args:
        photo: The photo.
        region: The masks.
        reference: Reference photo [H,W,3] uint8 and its mask [H,W] uint8, whose object gives the identity; None is the photo's own.
        mask_mode: What the marked pixels of the mask were: `white`, `transparent`, `opaque`, `value 7`...
        mask_pixels: Number of those pixels.
    """

    photo: Photo
    region: Region
    reference: tuple[Bytes, Bytes] | None
    mask_mode: str
    mask_pixels: int


def read_sizes(files: Mapping[str, Source]) -> dict[str, PictureSize]:
    """Read the sizes of pictures from their headers; slow for some files, so it is called on a thread of the pool.

    Raises:
        ApiError: not a picture (415).
    """
    sizes = {}
    for name, data in files.items():
        if not isinstance(data, bytes):
            sizes[name] = PictureSize(width=data.shape[1], height=data.shape[0], bits=8 * data.dtype.itemsize)
            continue
        header = read_header(data)
        if header is None:
            named = name_format(data)
            problem = "is empty" if not data else f"is not {FORMATS}" if named is None else f"is {named[0]}; {named[1]}"
            raise ApiError(
                415, f"{name} {problem}", "unsupported_image_type", _field_name(name), retry=False, reason="bad_image"
            )
        sizes[name] = PictureSize(width=header.width, height=header.height, bits=header.bits, format=header.format)
    return sizes


def check_sizes(sizes: Mapping[str, PictureSize], max_megapixels: float, memory: Reservation) -> None:
    """Check the sizes of pictures, and reserve the memory that decoding them needs.

    Args:
        sizes: Sizes by field name.
        max_megapixels: Limit for each picture.
        memory: The request's reservation.

    Raises:
        ApiError: too large (413).
        OverloadedError: the memory budget is used up.
    """
    for name, size in sizes.items():
        _check_size(name, size.width, size.height, max_megapixels)
        memory.take(_peak_bytes(name, size))


def _peak_bytes(name: str, size: PictureSize) -> int:
    return size.pixels * _BYTES_PER_PIXEL.get(name, _MASK_BYTES_PER_PIXEL) * (2 if size.bits > 8 else 1)


def decode_pictures(
    files: Mapping[str, Source],
    sizes: Mapping[str, PictureSize],
    decoder: DecoderProcess,
    *,
    polarity: Polarity,
    kind: MaskKind,
    value: MaskValue | None,
    dilate: int | None,
    rim: int,
) -> Pictures:
    """Decode and check all pictures of a request; slow, so it is called on a thread.

    Args:
        files: Pictures by field name.
        sizes: Their sizes by their headers.
        decoder: Decodes the files; arrays need none.
        polarity: Which of the masks' pixels are the object.
        kind: How the mask is used.
        value: The object's label in a label image.
        dilate: Side of the square by which the model's mask grows, in window pixels, odd; None is the bundle's.
        rim: Photo pixels around the mask that may change, too.

    Raises:
        InputError: see `alterbute.images`.
        ApiError, OverloadedError: see `DecoderProcess.decode_photo`.
    """

    def photo_of(name: str, param: str) -> Photo | Bytes:
        data = files[name]
        return decoder.decode_photo(data, param, sizes[name]) if isinstance(data, bytes) else data

    def levels_of(name: str) -> Levels | Bytes | None:
        data = files.get(name)
        return decoder.decode_levels(data, name, sizes[name]) if isinstance(data, bytes) else data

    if "reference_mask" in files and "reference" not in files:
        raise ApiError(
            400,
            "there is a reference_mask and no second image",
            "reference_missing",
            "reference_mask",
            reason="bad_request",
        )
    photo = load_photo(photo_of("image", "photo"))
    region = load_region(
        levels_of("mask"),
        photo,
        polarity=polarity,
        kind=kind,
        value=value,
        protect=levels_of("protect"),
        dilate=dilate,
        rim=rim,
    )
    reference = None
    if "reference" in files:
        reference = load_reference(photo_of("reference", "reference"), levels_of("reference_mask"), polarity)
    return Pictures(
        photo=photo,
        region=region,
        reference=reference,
        mask_mode="" if region.report is None else region.report.origin,
        mask_pixels=int((region.object > 0).sum()),
    )


def _check_size(name: str, width: int, height: int, max_megapixels: float) -> None:
    # A size of 0 is a damaged header, which the decoder reports.
    is_long = max(width, height) > _MAX_ASPECT * max(min(width, height), 1)
    if width * height <= max_megapixels * 1e6 and not is_long:
        return
    raise ApiError(
        413,
        f"{name} is {width}x{height} pixels; expected at most {max_megapixels:g} megapixels and sides of at most {_MAX_ASPECT}:1; resize it",
        "image_too_large",
        _field_name(name),
        retry=False,
        reason="too_large",
    )


def _field_name(name: str) -> str:
    """The field in which a picture was sent: the reference is the second `image`."""
    return "image" if name == "reference" else name
