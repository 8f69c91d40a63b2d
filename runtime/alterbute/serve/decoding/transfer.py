"""Decoded pictures as messages: packed by the decoder process, and checked and unpacked by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from alterbute.images.files.decode import Levels
from alterbute.images.metadata import Metadata
from alterbute.images.photo import Photo
from alterbute.serve.decoding.frames import Head, read_array, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alterbute.serve.decoding.job_limits import PictureSize

_MAX_BYTES: Final = 64 << 20
"""Most bytes of profile and metadata that are taken; the readers of metadata keep less."""
_DTYPES: Final = {"uint8": np.uint8, "uint16": np.uint16}
_CHANNELS: Final = {"pixels": 3, "alpha": 0, "luminance": 0, "colors": 3, "labels": 0}


def pack_photo(photo: Photo) -> tuple[Head, list[bytes | NDArray[Any]]]:
    """A photo as a message's head and buffers."""
    metadata = photo.metadata
    planes = {"pixels": photo.pixels, "alpha": photo.alpha}
    # In the order of `unpack_photo`.
    blocks = [photo.icc, metadata.exif, metadata.xmp, metadata.iptc]
    texts = [text.encode("utf-8", "surrogatepass") for pair in metadata.texts.items() for text in pair]
    chunks = [part for chunk in photo.color_chunks for part in chunk]
    head = {
        **_describe_planes(planes),
        "blocks": [None if block is None else len(block) for block in blocks],
        "texts": [len(text) for text in texts],
        "chunks": [len(part) for part in chunks],
        "orientation": photo.orientation,
        "dpi": None if metadata.dpi is None else [float(value) for value in metadata.dpi],
        "warnings": list(photo.warnings),
    }
    present = [plane for plane in planes.values() if plane is not None]
    return head, [*present, *(block for block in blocks if block is not None), *texts, *chunks]


def pack_levels(levels: Levels) -> tuple[Head, list[bytes | NDArray[Any]]]:
    """A mask's levels as a message's head and buffers."""
    planes = {
        "luminance": levels.luminance,
        "alpha": levels.alpha,
        "colors": levels.colors,
        "labels": levels.labels,
    }
    present: list[bytes | NDArray[Any]] = [plane for plane in planes.values() if plane is not None]
    return {**_describe_planes(planes), "is_lossy": levels.is_lossy}, present


def unpack_photo(head: Head, file: BinaryIO, size: PictureSize) -> Photo:
    """Read a photo that `pack_photo` made.

    Args:
        head: The message's head.
        file: The buffered pipe, which stands behind the head.
        size: The size in the file's header, which the pixels must have, upright or turned.

    Raises:
        EOFError: the pipe ended before.
        ValueError, KeyError, TypeError: the message is not one of a photo of that size.
    """
    planes = _read_planes(head, file, size, ("pixels", "alpha"))
    if planes["alpha"] is not None and planes["alpha"].dtype != planes["pixels"].dtype:
        raise ValueError("an alpha of another depth")
    sizes = [head["blocks"], head["texts"], head["chunks"]]
    if sum(_check_size(number) for numbers in sizes for number in numbers if number is not None) > _MAX_BYTES:
        raise ValueError("too much metadata")
    blocks, texts, chunks = (
        [None if number is None else read_bytes(file, number) for number in numbers] for numbers in sizes
    )
    icc, exif, xmp, iptc = blocks
    names = [(text or b"").decode("utf-8", "surrogatepass") for text in texts]
    parts = [part or b"" for part in chunks]
    dpi, orientation = head["dpi"], head["orientation"]
    if orientation not in range(1, 9):
        raise ValueError("an orientation that is not within 1..8")
    return Photo(
        pixels=planes["pixels"],
        alpha=planes["alpha"],
        icc=icc,
        orientation=orientation,
        color_chunks=tuple(zip(parts[::2], parts[1::2], strict=True)),
        metadata=Metadata(
            exif=exif,
            xmp=xmp,
            iptc=iptc,
            dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
            texts=dict(zip(names[::2], names[1::2], strict=True)),
        ),
        warnings=tuple(str(line) for line in head["warnings"]),
    )


def unpack_levels(head: Head, file: BinaryIO, size: PictureSize) -> Levels:
    """Read the levels that `pack_levels` made.

    Args:
        head: The message's head.
        file: The buffered pipe, which stands behind the head.
        size: The size in the file's header, which the levels must have, upright or turned.

    Raises:
        EOFError: the pipe ended before.
        ValueError, KeyError, TypeError: the message is not one of a mask of that size.
    """
    planes = _read_planes(head, file, size, ("luminance", "alpha", "colors", "labels"))
    if any(plane is not None and plane.dtype != np.uint8 for plane in planes.values()):
        raise ValueError("levels that are not bytes")
    return Levels(**planes, is_lossy=head["is_lossy"] is True)


def _describe_planes(planes: dict[str, Any]) -> Head:
    first = next(iter(planes.values()))
    dtypes = {name: plane.dtype.name for name, plane in planes.items() if plane is not None}
    return {"height": first.shape[0], "width": first.shape[1], "planes": dtypes}


def _read_planes(head: Head, file: BinaryIO, size: PictureSize, names: tuple[str, ...]) -> dict[str, Any]:
    """The planes of these names, None where there is none; the first must be there."""
    shape = (head["height"], head["width"])
    if shape not in ((size.height, size.width), (size.width, size.height)):
        raise ValueError("a picture of another size than its header's")
    dtypes = head["planes"]
    if not isinstance(dtypes, dict) or names[0] not in dtypes or set(dtypes) - set(names):
        raise ValueError("planes that are not expected")
    planes: dict[str, Any] = dict.fromkeys(names)
    for name in names:
        if name in dtypes:
            planes[name] = np.empty((*shape, 3) if _CHANNELS[name] else shape, _DTYPES[dtypes[name]])
            read_array(file, planes[name])
    return planes


def _check_size(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError("a size that is no number of bytes")
    return number
