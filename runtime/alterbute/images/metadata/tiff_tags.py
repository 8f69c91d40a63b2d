"""Metadata of a TIFF file, whose tags lie beside those of its pixels, as EXIF bytes and IPTC records."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from alterbute.images.metadata.exif_edit import PIXEL_TAGS
from alterbute.images.metadata.exif_tables import EXIF_POINTER, GPS_POINTER, INTEROP_POINTER

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

_IPTC: Final = 33723
_MAX_TAGS: Final = 1000


def read_tiff_exif(image: Image) -> bytes | None:
    """EXIF bytes of all tags of a TIFF that do not describe how its pixels are stored; None if there are none.

    Pillow reads and writes the tags, so that offsets into the file become offsets into the bytes. A tag that it cannot write is
    left out.
    """
    from PIL import Image as pil

    source, target = image.getexif(), pil.Exif()
    for tag in sorted(source)[:_MAX_TAGS]:
        if tag in PIXEL_TAGS:
            continue
        value = _read_group(source, tag) if tag in (EXIF_POINTER, GPS_POINTER) else _read_value(source, tag)
        if value and _is_writable(tag, value):
            target[tag] = value
    return target.tobytes().removeprefix(b"Exif\0\0") if len(target) else None


def read_tiff_iptc(image: Image) -> bytes | None:
    """IPTC records of a TIFF; they may be tagged as 4-byte numbers, of which the file's bytes are restored."""
    tags: Any = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(_IPTC)
    if isinstance(value, int):
        value = (value,)
    if isinstance(value, tuple) and all(isinstance(number, int) and 0 <= number < 1 << 32 for number in value):
        order = "<" if tags.prefix == b"II" else ">"
        return struct.pack(f"{order}{len(value)}I", *value)
    return value if isinstance(value, bytes) else None


def _read_group(source: Exif, tag: int) -> dict[int, Any]:
    """The tags of EXIF or GPS."""
    values = source.get_ifd(tag)
    # Interoperability is left out: Pillow writes its offset into TIFF files without the table.
    group = {key: _to_writable(values[key]) for key in sorted(values)[:_MAX_TAGS] if key != INTEROP_POINTER}
    for key in [key for key in group if not _is_writable(tag, {key: group[key]})]:
        del group[key]
    return group


def _read_value(source: Exif, tag: int) -> Any:
    try:
        return _to_writable(source[tag])
    except Exception:  # whatever Pillow raises for a damaged value
        return None


def _to_writable(value: Any) -> Any:
    """A value as Pillow writes it unchanged: it reads texts as Latin-1 and would write them as ASCII with question marks."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def _is_writable(tag: int, value: Any) -> bool:
    from PIL import Image as pil

    trial = pil.Exif()
    trial[tag] = value
    try:
        trial.tobytes()
    except Exception:  # whatever Pillow raises for a value that does not fit its tag
        return False
    return True
