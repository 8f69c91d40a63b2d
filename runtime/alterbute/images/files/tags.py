"""What a picture file holds besides pixels: its colour, and the metadata of photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alterbute.images.color import Cicp, ColorTags, read_color_tags
from alterbute.images.metadata.metadata import NO_METADATA, Metadata

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTags:
    """Colour and metadata of a picture file.

    Args:
        color: How its levels are to be understood.
        metadata: What else it holds; none but for photos.
    """

    color: ColorTags = field(default_factory=ColorTags)
    metadata: Metadata = NO_METADATA


def read_tags(
    image: Image,
    param: str,
    *,
    chunks: Sequence[tuple[bytes, bytes]] = (),
    cicp: Cicp | None = None,
    xmp: bytes | None = None,
) -> FileTags:
    """Read the tags of a picture that is opened; a mask has none.

    Args:
        image: The picture, or one whose `info` holds the same `icc_profile` and `exif`.
        param: Role of the picture.
        chunks: Name and data of a PNG's chunks that describe the colour.
        cicp: Code points of a HEIC or AVIF file without an ICC profile.
        xmp: An XMP packet of a HEIC file, whose blocks Pillow does not read.

    Raises:
        InputError: its colour cannot be shown on an ordinary display; see `read_color_tags`.
    """
    color = read_color_tags(image, param, chunks=chunks, cicp=cicp)
    if param == "reference":
        return FileTags(color=color)
    from alterbute.images.metadata import read_metadata, read_metadata_blocks

    if image.format is None and ("exif" in image.info or xmp is not None):
        return FileTags(color=color, metadata=read_metadata_blocks(image.info.get("exif"), xmp))
    return FileTags(color=color, metadata=read_metadata(image))
