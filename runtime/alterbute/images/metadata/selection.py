"""Which metadata of a photo is written beside an upright, edited picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from alterbute.images.metadata.captions import copy_captions
from alterbute.images.metadata.exif_edit import make_upright, read_orientation
from alterbute.images.metadata.iptc import map_iptc
from alterbute.images.metadata.metadata import NO_METADATA, Metadata
from alterbute.images.metadata.xmp import XmpPacket, read_xmp, write_xmp
from alterbute.images.metadata.xmp_edit import remove_stale

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MetadataRule = Literal["safe", "keep", "strip"]
METADATA_RULES: Final[tuple[MetadataRule, ...]] = ("safe", "keep", "strip")


def select_metadata(metadata: Metadata, rule: MetadataRule) -> Metadata:
    """What is written beside an upright, edited picture.

    Args:
        metadata: What the photo's file holds.
        rule: `safe` is resolution, captions, copyright and credits, written anew; nothing of place, time, device, person or software.
            `keep` is everything that holds for the edited picture: the orientation becomes 1, and thumbnails, previews and gain
            maps are removed; IPTC becomes XMP. `strip` is nothing.

    Returns:
        Metadata without IPTC records, which PNG and WebP cannot hold.
    """
    if rule == "strip":
        return NO_METADATA
    return copy_captions(metadata) if rule == "safe" else _keep(metadata)


def _keep(metadata: Metadata) -> Metadata:
    packet = None if metadata.xmp is None else read_xmp(metadata.xmp)
    properties: dict[str, Element] = {}
    if packet is not None:
        packet = remove_stale(packet, read_orientation(metadata.exif))
        properties |= packet.properties
    if metadata.iptc is not None:
        properties |= map_iptc(metadata.iptc, properties, allowed_only=False)
    return Metadata(
        exif=None if metadata.exif is None else make_upright(metadata.exif),
        xmp=write_xmp(XmpPacket(properties=properties, prefixes={} if packet is None else packet.prefixes)),
        dpi=metadata.dpi,
        texts=metadata.texts,
    )
