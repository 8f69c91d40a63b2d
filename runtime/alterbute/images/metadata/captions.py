"""Captions, copyright and credits: the only metadata that the rule `safe` takes over, written anew from their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from alterbute.images.metadata.exif_tables import (
    ARTIST,
    COPYRIGHT,
    IMAGE_DESCRIPTION,
    read_bytes,
    read_first_table,
    write_exif,
)
from alterbute.images.metadata.iptc import map_iptc
from alterbute.images.metadata.metadata import Metadata
from alterbute.images.metadata.xmp import (
    DC,
    IPTC_CORE,
    PHOTOSHOP,
    RIGHTS,
    XmpPacket,
    read_xmp,
    replace_forbidden,
    write_xmp,
)
from alterbute.images.metadata.xmp_values import MAX_CHARACTERS, Shape, Value, make_property, read_values

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_PROPERTIES: Final[Mapping[str, Shape]] = {
    f"{DC}title": "languages",
    f"{DC}description": "languages",
    f"{DC}rights": "languages",
    f"{DC}creator": "ordered",
    f"{RIGHTS}Marked": "text",
    f"{RIGHTS}UsageTerms": "languages",
    f"{RIGHTS}WebStatement": "text",
    f"{RIGHTS}Owner": "unordered",
    f"{PHOTOSHOP}Headline": "text",
    f"{PHOTOSHOP}Credit": "text",
    f"{PHOTOSHOP}Source": "text",
    f"{IPTC_CORE}AltTextAccessibility": "languages",
    f"{IPTC_CORE}ExtDescrAccessibility": "languages",
}
# A value that is no text for a reader has to have this form.
_FORMS: Final = {
    f"{RIGHTS}Marked": re.compile(r"True|False", re.IGNORECASE),
    f"{RIGHTS}WebStatement": re.compile(r"https?://\S+", re.IGNORECASE),
}
_DESCRIPTION: Final = f"{DC}description"
_TEXTS: Final = ("Title", "Author", "Description", "Copyright")
# Tags of Windows, in UTF-16; the first that there is becomes the property.
_WINDOWS: Final = (
    (0x9C9B, f"{DC}title"),
    (0x9C9F, _DESCRIPTION),
    (0x9C9C, _DESCRIPTION),
    (0x9C9D, f"{DC}creator"),
)
_MAKE: Final = 0x010F
# Descriptions that cameras write by themselves, which show the maker: "OLYMPUS DIGITAL CAMERA", "SONY DSC", "DCIM\100GOPRO\...".
_BY_CAMERA: Final = re.compile(r".{0,40}digital camera|sony dsc|samsung|dcim\W.*", re.IGNORECASE | re.DOTALL)


def copy_captions(metadata: Metadata) -> Metadata:
    """Resolution, captions, copyright and credits of metadata, in EXIF, XMP and texts that hold nothing else."""
    exif_texts = _read_exif(metadata.exif)
    texts = {
        key: metadata.texts[key]
        for key in _TEXTS
        if key in metadata.texts and not (key == "Description" and _BY_CAMERA.fullmatch(metadata.texts[key].strip()))
    }
    return Metadata(exif=write_exif(exif_texts, metadata.dpi), xmp=_copy_xmp(metadata), dpi=metadata.dpi, texts=texts)


def decode_text(data: bytes) -> str:
    """The text of an EXIF tag, which is UTF-8 in practice, or else Latin-1; ASCII by the standard."""
    data = data[:MAX_CHARACTERS]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _read_exif(exif: bytes | None) -> dict[int, bytes]:
    """Texts of the allowed tags, in UTF-8, each ended by a zero byte."""
    table = None if exif is None else read_first_table(exif)
    if exif is None or table is None:
        return {}
    values: dict[int, bytes] = {}
    make = decode_text(read_bytes(exif, table.entries.get(_MAKE)) or b"").strip("\0 ").casefold()
    for tag in (IMAGE_DESCRIPTION, ARTIST, COPYRIGHT):
        parts = (read_bytes(exif, table.entries.get(tag)) or b"").rstrip(b"\0 ").split(b"\0")
        # Copyright has two parts, of the photographer and of the editor. What follows a zero byte elsewhere is no text.
        texts = [decode_text(part).rstrip() for part in parts[: 2 if tag == COPYRIGHT else 1]]
        is_by_camera = tag == IMAGE_DESCRIPTION and (texts[0].casefold() == make or _BY_CAMERA.fullmatch(texts[0]))
        if any(texts) and not is_by_camera:
            # A blank stands for a photographer who is not named.
            values[tag] = "\0".join(text or " " for text in texts).encode() + b"\0"
    return values


def _copy_xmp(metadata: Metadata) -> bytes | None:
    """A packet of the allowed properties: of XMP, or else of IPTC, or else of the tags of Windows."""
    packet = None if metadata.xmp is None else read_xmp(metadata.xmp)
    properties: dict[str, Element] = {}
    for name, shape in _PROPERTIES.items():
        values = read_values(None if packet is None else packet.properties.get(name))
        form = _FORMS.get(name)
        values = [value for value in values if form is None or form.fullmatch(value.text)]
        if name == _DESCRIPTION:
            values = [value for value in values if not _BY_CAMERA.fullmatch(value.text)]
        if values:
            properties[name] = make_property(name, shape, values)
    if metadata.iptc is not None:
        properties |= map_iptc(metadata.iptc, properties, allowed_only=True)
    for name, text in _read_windows_texts(metadata.exif):
        if name not in properties:
            properties[name] = make_property(name, _PROPERTIES[name], [Value(text=text)])
    return write_xmp(XmpPacket(properties=properties))


def _read_windows_texts(exif: bytes | None) -> list[tuple[str, str]]:
    table = None if exif is None else read_first_table(exif)
    if exif is None or table is None:
        return []
    texts: list[tuple[str, str]] = []
    for tag, name in _WINDOWS:
        data = (read_bytes(exif, table.entries.get(tag)) or b"")[: 2 * MAX_CHARACTERS]
        text = data.decode("utf-16-le", "replace").partition("\0")[0].strip()
        if text:
            texts.append((name, replace_forbidden(text)))
    return texts
