"""The metadata type: what a picture file holds besides pixels and colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_BLOCK_BYTES: Final = 1 << 20
"""Longest EXIF, XMP and IPTC block that is read."""
MAX_TEXT_CHARACTERS: Final = 1 << 16
"""Longest text that is read."""
MAX_TEXTS: Final = 100
"""How many PNG texts are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Metadata of a picture file, read from one or to be written to one.

    Args:
        exif: EXIF as a TIFF structure, without the prefix `Exif\\0\\0` of JPEG; None is none.
        xmp: An XMP packet, UTF-8 XML; None is none.
        iptc: IPTC-IIM records, as in a JPEG's Photoshop block 0x0404; read only. None is none.
        dpi: Dots per inch, horizontal and vertical; None where the file does not state it.
        texts: PNG texts by keyword.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


NO_METADATA: Final = Metadata()
