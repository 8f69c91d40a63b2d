"""Metadata of a picture that Pillow opened, or of blocks that another decoder gives; what is damaged or too large is left out."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from alterbute.images.metadata.exif_tables import check_dpi, read_dpi, read_first_table, strip_prefix
from alterbute.images.metadata.metadata import MAX_BLOCK_BYTES, MAX_TEXT_CHARACTERS, MAX_TEXTS, Metadata
from alterbute.images.metadata.tiff_tags import read_tiff_exif, read_tiff_iptc
from alterbute.images.metadata.xmp import read_xmp

if TYPE_CHECKING:
    from PIL.Image import Image

_logger = logging.getLogger(__name__)
_PHOTOSHOP_IPTC: Final = 0x0404
_XMP_KEY: Final = "XML:com.adobe.xmp"
_RAW_PROFILE: Final = "Raw profile type "
_INCHES_OF_JFIF_UNIT: Final = {1: 1.0, 2: 2.54}
_MAX_KEY_CHARACTERS: Final = 79  # of a PNG text (PNG specification, section 11.3.3.1)
_Result = TypeVar("_Result")


def read_metadata(image: Image) -> Metadata:
    """The metadata of an opened JPEG, PNG, WebP, TIFF, AVIF, GIF or BMP.

    The pixels of a PNG are loaded, because its texts may follow them. Metadata that is damaged, larger than 1 MiB, or XMP with a
    document type is left out; nothing is raised for it.
    """
    texts = _attempt(lambda: _read_all_texts(image)) or {}
    is_tiff = image.format == "TIFF"
    exif = _attempt(lambda: read_tiff_exif(image)) if is_tiff else image.info.get("exif")
    exif = exif or _read_raw_profile(texts, "exif", "APP1")
    xmp = image.info.get("xmp") or texts.get(_XMP_KEY) or _read_raw_profile(texts, "xmp")
    iptc = _attempt(lambda: _read_iptc(image, texts))
    blocks = read_metadata_blocks(exif, xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp)
    return Metadata(
        exif=blocks.exif,
        xmp=blocks.xmp,
        iptc=_check_block(iptc),
        dpi=_attempt(lambda: _read_container_dpi(image)) or blocks.dpi,
        texts=_select_texts(texts),
    )


def read_metadata_blocks(exif: bytes | None, xmp: bytes | None) -> Metadata:
    """The metadata of blocks that a decoder, such as that of HEIC, gives; blocks that cannot be read are left out.

    Args:
        exif: EXIF bytes, with or without the prefix `Exif\\0\\0`.
        xmp: An XMP packet.
    """
    exif, xmp = _check_block(exif), _check_block(xmp)
    exif = None if exif is None else strip_prefix(exif)
    if exif is not None and read_first_table(exif) is None:
        exif = None
    if xmp is not None and read_xmp(xmp) is None:
        xmp = None
    return Metadata(exif=exif, xmp=xmp, dpi=None if exif is None else read_dpi(exif))


def _attempt(read: Callable[[], _Result]) -> _Result | None:
    """The result of a function, or None if it raises: what Pillow raises for damaged metadata is not documented."""
    try:
        return read()
    except Exception as fault:
        _logger.debug("metadata left out: %s", fault)
        return None


def _check_block(block: Any) -> bytes | None:
    """A block of bytes that is neither empty nor too large."""
    is_block = isinstance(block, bytes | bytearray) and 0 < len(block) <= MAX_BLOCK_BYTES
    return bytes(block) if is_block else None


def _read_all_texts(image: Image) -> Mapping[str, str]:
    """All texts of a PNG, also those with blocks of other metadata."""
    return getattr(image, "text", {}) if image.format == "PNG" else {}


def _select_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts within the limits, without blocks of other metadata."""
    selected: dict[str, str] = {}
    for key, text in texts.items():
        is_block = key == _XMP_KEY or key.startswith(_RAW_PROFILE)
        if len(selected) == MAX_TEXTS or is_block or not 0 < len(key) <= _MAX_KEY_CHARACTERS:
            continue
        if len(text) <= MAX_TEXT_CHARACTERS:
            selected[key] = str(text)
    return selected


def _read_raw_profile(texts: Mapping[str, str], *names: str) -> bytes | None:
    """A block that ImageMagick wrote as hexadecimal digits after a line with its name and a line with its length."""
    for name in names:
        match = re.fullmatch(
            r"\s*\w+\s+\d+\s+([0-9a-fA-F\s]+)", texts.get(_RAW_PROFILE + name, "")[: 3 * MAX_BLOCK_BYTES]
        )
        if match is not None:
            return _attempt(lambda digits=match[1]: bytes.fromhex(digits))  # type: ignore[misc]
    return None


def _read_iptc(image: Image, texts: Mapping[str, str]) -> bytes | None:
    if image.format == "TIFF":
        return read_tiff_iptc(image)
    photoshop = image.info.get("photoshop")
    if isinstance(photoshop, Mapping):
        block = photoshop.get(_PHOTOSHOP_IPTC)
        return block if isinstance(block, bytes) else None
    profile = _read_raw_profile(texts, "iptc")
    if profile is not None and profile.startswith(b"8BIM"):
        # ImageMagick wraps the records in one block of Photoshop: name, kind, an empty name, and the size.
        is_iptc = int.from_bytes(profile[4:6]) == _PHOTOSHOP_IPTC and profile[6:8] == b"\0\0"
        return profile[12 : 12 + int.from_bytes(profile[8:12])] if is_iptc else None
    return profile


def _read_container_dpi(image: Image) -> tuple[float, float] | None:
    """Dots per inch by JFIF, pHYs or a BMP header; not by tags of TIFF or EXIF, of which Pillow makes 1 or 72 where they are missing."""
    info = image.info
    if image.format == "TIFF":
        return None
    if image.format in ("JPEG", "MPO"):
        scale = _INCHES_OF_JFIF_UNIT.get(info.get("jfif_unit", 0))
        values = info.get("jfif_density", (0, 0))
    else:
        scale, values = 1.0, info.get("dpi", (0, 0))
    return None if scale is None else check_dpi(float(values[0]) * scale, float(values[1]) * scale)
