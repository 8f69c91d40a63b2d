"""Where an edited picture comes from: bundle, prompt, seed and version, written to and read from its metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final

from alterbute.images.metadata.exif_edit import set_software
from alterbute.images.metadata.metadata import MAX_BLOCK_BYTES, Metadata
from alterbute.images.metadata.xmp import ALTERBUTE, IPTC_EXT, XMP, XmpPacket, read_xmp, replace_forbidden, write_xmp
from alterbute.images.metadata.xmp_values import Value, make_property

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's code for a photo of which a part was made by a trained model."""
_TEXT_KEY: Final = "alterbute"
_NUMBERS: Final = ("seed", "index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How an edited picture was made; enough to make it again.

    Args:
        bundle: Name of the bundle.
        bundle_sha256: SHA-256 of its manifest, in hexadecimal.
        prompt: The text that describes the edit.
        seed: Seed of the noise.
        index: Which of the pictures of one request it is, from 0.
        version: Version of alterbute.
        settings: Further settings of the edit, by name.
    """

    bundle: str
    bundle_sha256: str
    prompt: str
    seed: int
    index: int
    version: str
    settings: Mapping[str, str | int | float] = field(default_factory=dict)


def add_provenance(metadata: Metadata, provenance: Provenance) -> Metadata:
    """Metadata with the provenance in PNG texts and in XMP, and the software in EXIF if there is EXIF.

    The same arguments give the same bytes. XMP that cannot be read is replaced.

    Args:
        metadata: What is written besides.
        provenance: How the picture was made; it replaces that of an earlier edit.
    """
    software = f"alterbute {provenance.version}"
    values = {item.name: getattr(provenance, item.name) for item in fields(provenance)}
    # JSON has no infinity and no NaN.
    values["settings"] = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in provenance.settings.items()
    }
    packet = (None if metadata.xmp is None else read_xmp(metadata.xmp)) or XmpPacket()
    properties: dict[str, Element] = {
        name: element for name, element in packet.properties.items() if not name.startswith(ALTERBUTE)
    }
    additions = {f"{XMP}CreatorTool": software, f"{IPTC_EXT}DigitalSourceType": SOURCE_TYPE}
    for name, value in sorted(values.items()):
        additions[f"{ALTERBUTE}{name}"] = _to_json(value) if name == "settings" else str(value)
    for name, text in additions.items():
        properties[name] = make_property(name, "text", [Value(text=replace_forbidden(text))])
    return replace(
        metadata,
        exif=None if metadata.exif is None else set_software(metadata.exif, software),
        xmp=write_xmp(XmpPacket(properties=properties, prefixes=packet.prefixes)),
        texts={**metadata.texts, "Software": software, _TEXT_KEY: _to_json(values)},
    )


def read_provenance(metadata: Metadata) -> dict[str, object] | None:
    """The provenance in a picture's PNG texts, or else in its XMP, by the names of `Provenance`; None without one."""
    text = metadata.texts.get(_TEXT_KEY)
    values = None if text is None else _read_object(text)
    if values is not None and "prompt" in values:
        return values
    packet = None if metadata.xmp is None else read_xmp(metadata.xmp)
    if packet is None or f"{ALTERBUTE}prompt" not in packet.properties:
        return None
    values = {}
    for item in fields(Provenance):
        element = packet.properties.get(f"{ALTERBUTE}{item.name}")
        if element is None:
            continue
        # Not `read_values`, which removes blanks at both ends: they belong to a prompt.
        value = element.text or ""
        if item.name == "settings":
            values[item.name] = _read_object(value) or {}
        elif item.name in _NUMBERS:
            try:
                values[item.name] = int(value)
            except ValueError:
                continue
        else:
            values[item.name] = value
    return values


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


def _read_object(text: str) -> dict[str, object] | None:
    """A JSON object, or None for any other text."""
    if len(text) > MAX_BLOCK_BYTES:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
