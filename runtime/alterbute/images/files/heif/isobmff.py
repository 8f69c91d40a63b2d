"""The header of AVIF and HEIC files: boxes of the ISO base media file format (ISO/IEC 14496-12, 23008-12 and 23000-22)."""

from __future__ import annotations

import struct
from typing import Final

from alterbute.images.color import Cicp
from alterbute.images.files.header_type import Header, Refusal
from alterbute.images.files.heif.item_boxes import Body, Property, find_box, iter_boxes, read_items

SEQUENCE_BRANDS: Final = (b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs")
PICTURE_BRANDS: Final = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", *SEQUENCE_BRANDS)
_CODECS: Final = {b"av01": "AVIF", b"hvc1": "HEIC"}


def brands(data: bytes) -> tuple[bytes, ...]:
    """The brands of a file that starts with an `ftyp` box, the major one first."""
    size = int.from_bytes(data[:4])
    body = data[8 : min(size, 4096)]
    return (body[:4], *(body[at : at + 4] for at in range(8, len(body) - 3, 4)))


def read_isobmff(data: bytes) -> Header | None:
    """Read the header of an AVIF or HEIC file; None for other files, or where the primary picture is not found.

    Raises:
        struct.error: the file is cut inside its header.
        IndexError: the same.
        TooComplexError: it has more boxes than pictures need.
    """
    if brands(data)[0] not in PICTURE_BRANDS:
        return None
    meta = find_box(data, b"meta")
    if meta is None:
        return None
    items = read_items(meta)
    own, kind = items.own.get(items.primary, []), items.kinds.get(items.primary, b"")
    codec = _CODECS.get(kind)
    if kind in (b"grid", b"iden", b"iovl"):
        # The parts of a picture have their own items; the first codec in the file is theirs.
        names = [name for name, _ in items.properties]
        codec = "AVIF" if b"av1C" in names else "HEIC" if b"hvcC" in names else None
    if codec is None or (codec == "HEIC" and not _has_readable_texts(meta)):
        return None
    ispe = next((body for name, body in own if name == b"ispe"), None)
    if ispe is None:
        return None
    width, height = struct.unpack_from(">II", ispe, 4)
    refusal = _find_unsupported(own, codec)
    crop = next((body for name, body in own if name == b"clap"), None)
    if crop is not None and codec == "HEIC":
        # Encoders of HEVC store even sizes, and this box cuts the picture back to its own.
        across, across_by, down, down_by = struct.unpack_from(">IIII", crop)
        width = min(width, across // max(across_by, 1))
        height = min(height, down // max(down_by, 1))
    turn = next((body for name, body in own if name == b"irot"), b"\0")
    return Header(
        format="AVIF" if codec == "AVIF" else "HEIC",
        width=width,
        height=height,
        bits=_read_bits(own, items.properties),
        channels=4,
        num_frames=2 if brands(data)[0] in SEQUENCE_BRANDS and find_box(data, b"moov") is not None else 1,
        is_lossy=True,
        quarter_turns=turn[0] & 3,
        cicp=_read_cicp(own),
        refusal=refusal,
    )


def _has_readable_texts(meta: Body) -> bool:
    """Whether the types and names of all items and auxiliary pictures are UTF-8; pi-heif 1.4 ends the process where one is not."""
    for name, body in iter_boxes(meta[4:]):
        texts: list[bytes] = []
        if name == b"iinf":
            # Behind the number of an item and its protection.
            infos = [entry for kind, entry in iter_boxes(body[6 if body[:1] == b"\0" else 8 :]) if kind == b"infe"]
            texts = [bytes(entry[10 if entry[:1] == b"\3" else 8 :]) for entry in infos]
        elif name == b"iprp":
            for kind, properties in iter_boxes(body):
                if kind == b"ipco":
                    texts += [
                        bytes(entry[4:]).split(b"\0")[0] for part, entry in iter_boxes(properties) if part == b"auxC"
                    ]
        try:
            for text in texts:
                text.decode()
        except UnicodeDecodeError:
            return False
    return True


def _read_bits(own: list[Property], every: list[Property]) -> int:
    """The highest depth that the primary picture's boxes state; a picture of parts is as deep as the deepest part."""
    stated = [_depth(name, body) for name, body in own]
    return max(stated, default=0) or max((_depth(name, body) for name, body in every), default=0) or 8


def _depth(name: bytes, body: Body) -> int:
    if name == b"pixi" and len(body) > 5:
        return max(body[5 : 5 + body[4]], default=0)
    if name == b"av1C" and len(body) > 2:
        return (12 if body[2] & 0x20 else 10) if body[2] & 0x40 else 8
    if name == b"hvcC" and len(body) > 18:
        return 8 + max(body[17] & 7, body[18] & 7)
    return 0


def _read_cicp(own: list[Property]) -> Cicp | None:
    """The code points of the colour; None where the file has an ICC profile, or neither."""
    colours = [body for name, body in own if name == b"colr"]
    if any(body[:4] in (b"prof", b"rICC") for body in colours):
        return None
    for body in colours:
        if body[:4] == b"nclx":
            primaries, transfer, matrix, flags = struct.unpack_from(">HHHB", body, 4)
            return Cicp(primaries=primaries, transfer=transfer, matrix=matrix, is_full_range=bool(flags & 0x80))
    return None


def _find_unsupported(own: list[Property], codec: str) -> Refusal | None:
    names = [name for name, _ in own]
    # Pillow turns an AVIF first and mirrors it then, whatever the order of the boxes, and does not cut it.
    is_odd = b"imir" in names and b"irot" in names and names.index(b"imir") < names.index(b"irot")
    if codec == "AVIF" and (is_odd or b"clap" in names):
        what = "mirrored before it is turned" if is_odd else "shown in part only (clean aperture)"
        return Refusal.layout(f"is an AVIF file that is {what}", "an ordinary AVIF file", "save it as a PNG")
    return None
