"""Changes to whole XMP packets: what does not hold for an upright, edited picture is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from alterbute.images.metadata.xmp import EXIF, TIFF, XMP, XmpPacket
from alterbute.images.metadata.xmp_values import Value, make_property, read_values

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ORIENTATION: Final = f"{TIFF}Orientation"
# Gain maps, depth maps and films that are in the original file only, and the lists of them.
_DROPPED_NAMESPACES: Final = (
    "{http://ns.adobe.com/hdr-gain-map/1.0/}",
    "{http://ns.apple.com/HDRGainMap/1.0/}",
    "{http://ns.google.com/photos/1.0/container/}",
    "{http://ns.google.com/photos/1.0/camera/}",
    "{http://ns.google.com/photos/1.0/image/}",
    "{http://ns.google.com/photos/1.0/depthmap/}",
    "{http://ns.google.com/photos/dd/1.0/device/}",
)
# The second part of a packet is in the original JPEG only; a manifest of content credentials, too.
_DROPPED: Final = (
    f"{XMP}Thumbnails",
    f"{XMP}PageInfo",
    "{http://ns.adobe.com/xmp/note/}HasExtendedXMP",
    "{http://purl.org/dc/terms/}provenance",
)
# Rectangles in the picture as it was stored.
_REGIONS: Final = (
    "{http://www.metadataworkinggroup.com/schemas/regions/}Regions",
    "{http://ns.microsoft.com/photo/1.2/}RegionInfo",
    f"{EXIF}SubjectArea",
    f"{EXIF}SubjectLocation",
)
_SIDES: Final = (
    (f"{EXIF}PixelXDimension", f"{EXIF}PixelYDimension"),
    (f"{TIFF}ImageWidth", f"{TIFF}ImageLength"),
)


def remove_stale(packet: XmpPacket, orientation: int) -> XmpPacket:
    """A packet for the upright, edited picture: orientation 1, no thumbnails, no gain maps; regions only where nothing was turned.

    Args:
        packet: The packet of the picture as it was stored.
        orientation: The EXIF orientation that was applied, 1..8; 1 also where EXIF has none.
    """
    properties: dict[str, Element] = {
        name: element
        for name, element in packet.properties.items()
        if name not in _DROPPED and not name.startswith(_DROPPED_NAMESPACES)
    }
    own = read_values(properties.get(_ORIENTATION))
    if own:
        if orientation == 1 and own[0].text in list("2345678"):
            orientation = int(own[0].text)
        properties[_ORIENTATION] = make_property(_ORIENTATION, "text", [Value(text="1")])
    if orientation > 1:
        for name in _REGIONS:
            properties.pop(name, None)
    if orientation > 4:
        for width, height in _SIDES:
            sides = [read_values(properties.get(name)) for name in (width, height)]
            if all(sides):
                properties[width] = make_property(width, "text", sides[1])
                properties[height] = make_property(height, "text", sides[0])
    return XmpPacket(properties=properties, prefixes=packet.prefixes)
