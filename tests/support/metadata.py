"""Picture files full of metadata for tests, and Pillow's own writers of metadata."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Final

from alterbute.images.metadata import Metadata
from PIL import Image, PngImagePlugin

from tests.support.pictures import noise, to_bytes

CAPTION: Final = 'A "red" chair – 빨간 의자'
AUTHOR: Final = "Kim 김"
RIGHTS: Final = "© 2026 Kim & <Sons>"
PRIVATE: Final = "PRIVATE"
"""Part of every text that the rule `safe` must not write."""


def private(name: str) -> str:
    """A text that stands for private metadata."""
    return f"{PRIVATE}-{name}"


def make_exif(orientation: int = 6) -> bytes:
    """EXIF with captions, device, owner, place, a maker's note with a preview, and a thumbnail; without JPEG's prefix."""
    exif = Image.Exif()
    for tag, text in {270: CAPTION, 315: AUTHOR, 33432: RIGHTS}.items():
        exif[tag] = text.encode()
    for tag in (271, 272, 305, 306, 316):
        exif[tag] = private(f"tag{tag}")
    exif[256], exif[257], exif[274] = 40, 30, orientation
    preview = to_bytes(noise(8, 8), "JPEG", comment=private("preview"))
    exif[0x8769] = {
        0x9003: private("date"),
        0x927C: b"Maker\0" + private("makernote").encode() + preview + b"after the preview",
        0x9286: b"ASCII\0\0\0" + private("comment").encode(),
        0xA002: 40,
        0xA003: 30,
        0xA420: private("id"),
        0xA430: private("owner"),
        0xA431: private("serial"),
        0xA435: private("lens"),
    }
    exif[0x8825] = {1: "N", 2: (37.0, 33.0, 59.0), 27: private("gps").encode(), 29: private("gpsdate")}
    data = bytearray(exif.tobytes()[6:])
    order = "<" if data[:2] == b"II" else ">"
    (slots,) = struct.unpack_from(f"{order}H", data, 8)
    struct.pack_into(f"{order}I", data, 10 + 12 * slots, len(data))
    thumbnail = to_bytes(noise(8, 8), "JPEG", comment=private("thumbnail"))
    place = len(data) + 2 + 2 * 12 + 4
    data += struct.pack(f"{order}H", 2)
    data += struct.pack(f"{order}HHII", 513, 4, 1, place) + struct.pack(f"{order}HHII", 514, 4, 1, len(thumbnail))
    return bytes(data + bytes(4) + thumbnail)


XMP: Final = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="uuid:{PRIVATE}" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:ps="http://ns.adobe.com/photoshop/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:core="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
 xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:note="http://ns.adobe.com/xmp/note/"
 xmlns:mwg="http://www.metadataworkinggroup.com/schemas/regions/"
 tiff:Orientation="6" xmp:CreateDate="{PRIVATE}-created" xmp:CreatorTool="{PRIVATE}-tool" exif:GPSLatitude="{PRIVATE}-latitude"
 xmpMM:DocumentID="{PRIVATE}-document" hdrgm:Version="1.0" note:HasExtendedXMP="{PRIVATE}-extended" aux:SerialNumber="{PRIVATE}-aux"
 ps:Credit="Studio" ps:City="{PRIVATE}-city" xmpRights:Marked="True" xmpRights:WebStatement="https://example.org/licence">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{CAPTION}</rdf:li><rdf:li xml:lang="de">Ein Stuhl</rdf:li></rdf:Alt></dc:description>
<dc:creator><rdf:Seq><rdf:li>{AUTHOR}</rdf:li><rdf:li>Lee</rdf:li></rdf:Seq></dc:creator>
<core:AltTextAccessibility><rdf:Alt><rdf:li xml:lang="ko">의자</rdf:li></rdf:Alt></core:AltTextAccessibility>
<xmp:Thumbnails><rdf:Alt><rdf:li>{PRIVATE}-thumbnails</rdf:li></rdf:Alt></xmp:Thumbnails>
<xmpMM:History><rdf:Seq><rdf:li>{PRIVATE}-history</rdf:li></rdf:Seq></xmpMM:History>
<mwg:Regions rdf:parseType="Resource"><mwg:Name>{PRIVATE}-face</mwg:Name></mwg:Regions>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def make_iptc() -> bytes:
    """IPTC records in UTF-8."""
    records = {5: "제목", 55: "20260102", 80: "someone else", 90: private("iptc-city"), 105: "Headline", 116: RIGHTS}
    data = b"\x1c\x01\x5a\x00\x03\x1b%G"
    for dataset, text in records.items():
        data += struct.pack(">BBBH", 0x1C, 2, dataset, len(text.encode())) + text.encode()
    return data


def make_jpeg(orientation: int = 6) -> bytes:
    """A JPEG with EXIF, XMP, IPTC, a comment and 300 dpi."""
    options: dict[str, Any] = {
        "exif": b"Exif\0\0" + make_exif(orientation),
        "xmp": XMP,
        "comment": private("jpeg-comment"),
    }
    data, iptc = to_bytes(noise(30, 40), "JPEG", dpi=(300, 300), **options), make_iptc()
    block = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    end_of_jfif = 4 + int.from_bytes(data[4:6])
    return data[:end_of_jfif] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + data[end_of_jfif:]


def make_png() -> bytes:
    """A PNG with EXIF, XMP, texts and 144 dpi."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Title", CAPTION, "ko", zip=True)
    info.add_text("Author", "Kim")
    info.add_text("Copyright", RIGHTS, zip=True)
    for key in ("Software", "Source", "Comment", "parameters", "prompt"):
        info.add_text(key, private(key), zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return to_bytes(noise(30, 40), "PNG", pnginfo=info, exif=make_exif(), dpi=(144, 144))


def make_webp() -> bytes:
    """A WebP with EXIF and XMP."""
    return to_bytes(noise(30, 40), "WEBP", exif=make_exif(), xmp=XMP)


def make_tiff() -> bytes:
    """A TIFF with the tags of EXIF, XMP, IPTC and 300 dpi."""
    return write(Metadata(exif=make_exif(1), xmp=XMP, iptc=make_iptc(), dpi=(300.0, 300.0)), "TIFF")


def write(metadata: Metadata, format: str) -> bytes:
    """A small picture with metadata, written by Pillow."""
    options: dict[str, Any] = {"dpi": metadata.dpi} if metadata.dpi is not None else {}
    if format == "PNG":
        options["pnginfo"] = info = PngImagePlugin.PngInfo()
        for key, text in metadata.texts.items():
            info.add_itxt(key, text, zip=True)
        if metadata.xmp is not None:
            info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode())
    if format == "TIFF":
        exif = Image.Exif()
        exif.load(b"Exif\0\0" + metadata.exif if metadata.exif is not None else b"")
        for tag, value in dict(exif).items():
            # Pillow would write question marks for texts that are not ASCII.
            exif[tag] = value.encode("latin-1") if isinstance(value, str) else value
        for tag, block in {700: metadata.xmp, 33723: metadata.iptc}.items():
            if block is not None:
                exif[tag] = block
        options["exif"] = exif
    elif metadata.exif is not None:
        options["exif"] = metadata.exif
    if format == "WEBP":
        options |= {"lossless": True, "xmp": metadata.xmp or b""}
    return to_bytes(noise(30, 40), format, **options)


def inflate_chunks(data: bytes) -> bytes:
    """A file's bytes, followed by those of a PNG's compressed texts."""
    parts, at = [data], 8
    while data.startswith(b"\x89PNG") and at < len(data):
        size = int.from_bytes(data[at : at + 4])
        body = data[at + 8 : at + 8 + size]
        start = body.find(b"\x78")
        while data[at + 4 : at + 8] in (b"iTXt", b"zTXt") and start >= 0:
            try:
                parts.append(zlib.decompress(body[start:]))
                break
            except zlib.error:
                start = body.find(b"\x78", start + 1)
        at += 12 + size
    return b"".join(parts)


def open_picture(data: bytes) -> Image.Image:
    """A picture that Pillow opened, without its pixels."""
    return Image.open(io.BytesIO(data))
