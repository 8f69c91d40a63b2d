"""The header of AVIF and HEIC files: boxes of the ISO base media file format (ISO/IEC 14496-12, 23008-12 and 23000-22)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from alterbute.images.color import Cicp
from alterbute.images.files.header_type import Header, Refusal

_Body: TypeAlias = bytes | memoryview
_Property: TypeAlias = tuple[bytes, _Body]

SEQUENCE_BRANDS: Final = (b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs")
PICTURE_BRANDS: Final = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", *SEQUENCE_BRANDS)
_CODECS: Final = {b"av01": "AVIF", b"hvc1": "HEIC"}
_MAX_BOXES: Final = 10_000


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
    """
    if brands(data)[0] not in PICTURE_BRANDS:
        return None
    meta = _find(data, b"meta")
    if meta is None:
        return None
    boxes = dict(_boxes(meta[4:]))
    primary, kinds = _read_primary(boxes[b"pitm"]) if b"pitm" in boxes else 0, _read_kinds(boxes.get(b"iinf", b""))
    container = dict(_boxes(boxes.get(b"iprp", b"")))
    every = list(_boxes(container.get(b"ipco", b"")))
    own = _read_own(container.get(b"ipma", b""), primary, every)
    kind = kinds.get(primary, b"")
    codec = _CODECS.get(kind)
    if kind in (b"grid", b"iden", b"iovl"):
        # The parts of a picture have their own items; the first codec in the file is theirs.
        names = [name for name, _ in every]
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
        bits=_read_bits(own, every),
        channels=4,
        num_frames=2 if brands(data)[0] in SEQUENCE_BRANDS and _find(data, b"moov") is not None else 1,
        is_lossy=True,
        quarter_turns=turn[0] & 3,
        cicp=_read_cicp(own),
        refusal=refusal,
    )


def _boxes(data: _Body) -> Iterator[_Property]:
    """Type and body of the boxes in a body; a last box that is cut has the bytes that are there."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        size = len(data) - at if size == 0 else size
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


def _find(data: bytes, name: bytes) -> memoryview | None:
    """The body of the first box of a type at the top of a file; other boxes are not copied."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return None
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        size = len(data) - at if size == 0 else size
        if size < head:
            return None
        if kind == name:
            return memoryview(data)[at + head : at + size]
        at += size
    return None


def _read_primary(pitm: _Body) -> int:
    (number,) = struct.unpack_from(">H" if pitm[0] == 0 else ">I", pitm, 4)
    return int(number)


def _read_kinds(iinf: _Body) -> dict[int, bytes]:
    """The type of every item."""
    kinds: dict[int, bytes] = {}
    for name, body in _boxes(iinf[6 if iinf[:1] == b"\0" else 8 :]):
        if name == b"infe" and body[0] >= 2:
            number, _, kind = struct.unpack_from(">HH4s" if body[0] == 2 else ">IH4s", body, 4)
            kinds[number] = kind
    return kinds


def _has_readable_texts(meta: _Body) -> bool:
    """Whether the types and names of all items and auxiliary pictures are UTF-8; pi-heif 1.4 ends the process where one is not."""
    for name, body in _boxes(meta[4:]):
        texts: list[bytes] = []
        if name == b"iinf":
            # Behind the number of an item and its protection.
            infos = [entry for kind, entry in _boxes(body[6 if body[:1] == b"\0" else 8 :]) if kind == b"infe"]
            texts = [bytes(entry[10 if entry[:1] == b"\3" else 8 :]) for entry in infos]
        elif name == b"iprp":
            for kind, properties in _boxes(body):
                if kind == b"ipco":
                    texts += [bytes(entry[4:]).split(b"\0")[0] for part, entry in _boxes(properties) if part == b"auxC"]
        try:
            for text in texts:
                text.decode()
        except UnicodeDecodeError:
            return False
    return True


def _read_own(ipma: _Body, primary: int, every: list[_Property]) -> list[_Property]:
    """The properties of the primary picture, in the order in which they apply."""
    if not ipma:
        return []
    is_wide_number, is_wide_index = ipma[0] > 0, ipma[3] & 1
    (count,), at = struct.unpack_from(">I", ipma, 4), 8
    own: list[_Property] = []
    num_indices = 0
    for _ in range(min(count, _MAX_BOXES)):
        (number,) = struct.unpack_from(">I" if is_wide_number else ">H", ipma, at)
        at += 4 if is_wide_number else 2
        length = ipma[at]
        at += 1
        num_indices += length
        if num_indices > _MAX_BOXES:
            break
        for _ in range(length):
            (index,) = struct.unpack_from(">H" if is_wide_index else ">B", ipma, at)
            at += 2 if is_wide_index else 1
            index &= 0x7FFF if is_wide_index else 0x7F
            if number == primary and 1 <= index <= len(every):
                own.append(every[index - 1])
    return own


def _read_bits(own: list[_Property], every: list[_Property]) -> int:
    """The highest depth that the primary picture's boxes state; a picture of parts is as deep as the deepest part."""
    stated = [_depth(name, body) for name, body in own]
    return max(stated, default=0) or max((_depth(name, body) for name, body in every), default=0) or 8


def _depth(name: bytes, body: _Body) -> int:
    if name == b"pixi" and len(body) > 5:
        return max(body[5 : 5 + body[4]], default=0)
    if name == b"av1C" and len(body) > 2:
        return (12 if body[2] & 0x20 else 10) if body[2] & 0x40 else 8
    if name == b"hvcC" and len(body) > 18:
        return 8 + max(body[17] & 7, body[18] & 7)
    return 0


def _read_cicp(own: list[_Property]) -> Cicp | None:
    """The code points of the colour; None where the file has an ICC profile, or neither."""
    colours = [body for name, body in own if name == b"colr"]
    if any(body[:4] in (b"prof", b"rICC") for body in colours):
        return None
    for body in colours:
        if body[:4] == b"nclx":
            primaries, transfer, matrix, flags = struct.unpack_from(">HHHB", body, 4)
            return Cicp(primaries=primaries, transfer=transfer, matrix=matrix, is_full_range=bool(flags & 0x80))
    return None


def _find_unsupported(own: list[_Property], codec: str) -> Refusal | None:
    names = [name for name, _ in own]
    # Pillow turns an AVIF first and mirrors it then, whatever the order of the boxes, and does not cut it.
    is_odd = b"imir" in names and b"irot" in names and names.index(b"imir") < names.index(b"irot")
    if codec == "AVIF" and (is_odd or b"clap" in names):
        what = "mirrored before it is turned" if is_odd else "shown in part only (clean aperture)"
        return Refusal.layout(f"is an AVIF file that is {what}", "an ordinary AVIF file", "save it as a PNG")
    return None
