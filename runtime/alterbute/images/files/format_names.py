"""Plain names of files that are not taken, by their first bytes, and what can be done with each of them."""

from __future__ import annotations

import re
from typing import Final

from alterbute.images.files.heif.isobmff import PICTURE_BRANDS, brands

FORMATS: Final = "a PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP or GIF file"
SAVE_AS: Final = "save it as a PNG, TIFF or JPEG"

_DEVELOP: Final = "open it in a RAW converter and export a 16-bit TIFF, a PNG or a JPEG"
_DOWNLOAD: Final = "download the picture itself again"
_STARTS: Final = (
    (b"\xff\x0a", "a JPEG XL file", SAVE_AS),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file", SAVE_AS),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file", SAVE_AS),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file", SAVE_AS),
    (b"8BPS", "a Photoshop file (PSD)", "export it as a PNG or TIFF"),
    (b"FUJIFILMCCD-RAW", "a camera RAW file (RAF)", _DEVELOP),
    (b"IIRO", "a camera RAW file (ORF)", _DEVELOP),
    (b"IIRS", "a camera RAW file (ORF)", _DEVELOP),
    (b"MMOR", "a camera RAW file (ORF)", _DEVELOP),
    (b"IIU\0", "a camera RAW file (RW2)", _DEVELOP),
    (b"FOVb", "a camera RAW file (X3F)", _DEVELOP),
    (b"\0MRM", "a camera RAW file (MRW)", _DEVELOP),
    (b"%PDF", "a PDF document", "export its picture as a PNG or TIFF"),
    (b"%!PS", "an EPS or PostScript file", "export it as a PNG of the size that you need"),
    (b"\xc5\xd0\xd3\xc6", "an EPS or PostScript file", "export it as a PNG of the size that you need"),
    (b"\0\0\1\0", "an icon file (ICO)", SAVE_AS),
    # A Targa file has no mark at its start: these are uncompressed and compressed RGB without a palette.
    (b"\0\0\2\0\0\0\0\0", "a Targa file (TGA)", SAVE_AS),
    (b"\0\0\n\0\0\0\0\0", "a Targa file (TGA)", SAVE_AS),
    (b"\0\0\2\0", "a cursor file (CUR)", SAVE_AS),
    (b"\x76\x2f\x31\x01", "an OpenEXR file", "tone-map it and save it as a 16-bit TIFF or PNG"),
    (b"#?RADIANCE", "a Radiance HDR file", "tone-map it and save it as a 16-bit TIFF or PNG"),
    (b"#?RGBE", "a Radiance HDR file", "tone-map it and save it as a 16-bit TIFF or PNG"),
    (b"\x1a\x45\xdf\xa3", "a video (WebM or Matroska)", "save one frame of it as a PNG"),
    (b"PK\3\4", "a ZIP archive or an office document", "take the picture out of it"),
    (b"PK\5\6", "a ZIP archive or an office document", "take the picture out of it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"DDS ", "a DirectDraw texture (DDS)", SAVE_AS),
    (b"gimp xcf", "a GIMP file (XCF)", "export it as a PNG or TIFF"),
    (b"qoif", "a QOI file", SAVE_AS),
)
_SUPPORTED: Final = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"RIFF", "WebP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# Where the frame header of a JPEG-LS file lies, behind its first markers.
_JPEG_LS_BYTES: Final = 256
_NETPBM: Final = re.compile(rb"P[1-7fF]\s")
_TEXT: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<([?!]?[A-Za-z][\w:-]*)")


def name_format(data: bytes) -> tuple[str, str] | None:
    """The plain name of a file that is no picture of a supported format, and what to do; None for an unknown one."""
    for start, name, fix in _STARTS:
        if data.startswith(start):
            return name, fix
    if data[4:8] == b"ftyp":
        return _name_media(data)
    if data[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "a video (MP4 or MOV)", "save one frame of it as a PNG"
    if data.startswith(b"RIFF") and data[8:12] != b"WEBP":
        return "a sound or video file (RIFF)", "save one frame of it as a PNG"
    if _NETPBM.match(data):
        return "a Netpbm file (PPM, PGM or PBM)", SAVE_AS
    if _TEXT.match(data):
        return _name_text(data)
    if data.lstrip()[:1] in (b"{", b"["):
        return "a JSON text", "give the picture; an annotation must be a file that ends in .json"
    if data.startswith(b"\xff\xd8\xff") and b"\xff\xf7" in data[:_JPEG_LS_BYTES]:
        return "a JPEG-LS file", SAVE_AS
    for start, name in _SUPPORTED:
        if data.startswith(start):
            return f"a {name} file whose header is cut or damaged", "copy or save the file again"
    return None


def _name_media(data: bytes) -> tuple[str, str]:
    major = brands(data)[0]
    if major == b"crx ":
        return "a camera RAW file (CR3)", _DEVELOP
    if major in PICTURE_BRANDS:
        return "a HEIF file of a kind that is not read, or whose header is cut or damaged", SAVE_AS
    return "a video (MP4 or MOV)", "save one frame of it as a PNG"


def _name_text(data: bytes) -> tuple[str, str]:
    start = data[:4096].lower()
    if b"<svg" in start:
        return "an SVG drawing", "export it as a PNG of the size that you need"
    if b"<html" in start or b"<!doctype html" in start:
        return "a web page: the download probably failed", _DOWNLOAD
    return "an XML text: the download probably failed", _DOWNLOAD
