"""The header of a TIFF: its first picture's size and layout, the number of its pages, and whether it is a camera's RAW file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

from alterbute.images.files.header_type import Header, Refusal, TooComplexError

_Ifd: TypeAlias = Mapping[int, tuple[int, ...]]

# Tags (TIFF 6.0, DNG 1.7).
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_MAKE, _SAMPLES, _PLANAR, _SUB_IFDS, _EXTRA, _SAMPLE_FORMAT, _DNG = 271, 277, 284, 330, 338, 339, 50706
_TILE_WIDTH, _EXIF, _GPS = 322, 34665, 34853
_READ: Final = frozenset((254, 256, 257, 258, 259, 262, 266, 271, 277, 284, 322, 330, 338, 339, 34665, 34853, 50706))
_TYPES: Final = {1: "B", 2: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_TYPE_BYTES: Final = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_MAX_VALUES: Final = 64
_MAX_ENTRIES: Final = 4096
_MAX_PAGES: Final = 1000
_MAX_ENTRIES_OF_ALL: Final = 20_000
# Places and sizes of strips and tiles, of which only the number is read.
_PARTS: Final = (273, 279, 324, 325)
_MAX_SUB_IFDS: Final = 8
_BYTES: Final = (1, 2, 6, 7)
# A palette of 16 bits has 196,608.
_MAX_NUMBERS: Final = 200_000
# Where the tags are kept apart that have more.
_EXCESS: Final = -1

_SENSOR: Final = (32803, 34892)
_COMPRESSIONS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34925, 50000, 50001)
_LOSSY: Final = (6, 7, 50001)
# Before Pillow 13, tiles are read beyond their buffer, and compressions that may end early give the memory that was there before
# (GHSA-462x-pgg6-55fp, GHSA-c6hw-5grf-ff96, GHSA-q45j-58j2-45rg). These ones fail where data is missing.
_SAFE_PILLOW: Final = 13
_STRICT_COMPRESSIONS: Final = (1, 5, 8, 32773, 32946, 34925, 50000)
_COLOURS: Final = {4: "transparency mask", 5: "CMYK", 8: "LAB", 9: "LAB", 10: "LAB", 32844: "LogL", 32845: "LogLuv"}
_SAMPLE_FORMATS: Final = {2: "signed levels", 3: "floating-point levels", 5: "complex levels", 6: "complex levels"}


def is_tiff(data: bytes) -> bool:
    """Whether a file starts as a TIFF or BigTIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(data: bytes) -> Header | None:
    """Read the header of a TIFF; None where it is damaged.

    Raises:
        struct.error: the file is cut inside its header.
        OverflowError: a place in it is outside any file.
        TooComplexError: more tags, pages, strips or tiles than a picture of its size needs.
    """
    if data[8:10] == b"CR":  # a place where no TIFF has a directory of a usual length
        return Header(format="TIFF", width=0, height=0, bits=16, channels=1, refusal=Refusal.raw("CR2"))
    order, is_big = "<" if data[0] == 0x49 else ">", data[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, 8 if is_big else 4)
    first, following = _read_ifd(data, at, order, is_big)
    if first is None:
        return None
    # Pages are full pictures: a reduced one is a thumbnail of the first.
    seen, num_pages, num_entries = {at}, 1, 0
    while following and following not in seen and len(seen) < _MAX_PAGES:
        seen.add(following)
        (count,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, following)
        num_entries += count
        if num_entries > _MAX_ENTRIES_OF_ALL:
            raise TooComplexError(f"has more than {_MAX_ENTRIES_OF_ALL:,} tags")
        page, following = _read_ifd(data, following, order, is_big)
        if page is None:
            return None
        num_pages += not _number(page, _SUBFILE) & 1
    width, height, photometric = _number(first, _WIDTH), _number(first, _HEIGHT), _number(first, _PHOTOMETRIC)
    bits, compression = first.get(_BITS, (1,)), _number(first, _COMPRESSION, 1)
    # Photos in JPEG compression of the old kind are in YCbCr, whatever the tag states.
    photometric = 6 if compression == 6 else photometric
    extra = first.get(_EXTRA, ())
    if not all(_is_bounded(data, at, order, is_big) for pointer in (_EXIF, _GPS) for at in first.get(pointer, ())):
        return None
    refusal = (
        _find_raw(data, first, order, is_big)
        or _find_unsupported(first, photometric, compression, is_little_endian=order == "<")
        or _find_unsafe(first, photometric, compression)
    )
    if refusal is None and _EXCESS in first:
        raise TooComplexError(f"has a tag of {_number(first, _EXCESS):,} numbers")
    num_parts, samples = max(_number(first, tag) for tag in _PARTS), _number(first, _SAMPLES, 1)
    if refusal is None and num_parts > 64 + (height + width * height // 64) * samples:
        raise TooComplexError(f"has {num_parts:,} strips or tiles for {width}x{height} pixels")
    if not bits or (refusal is None and (width < 1 or height < 1)):
        return None
    return Header(
        format="TIFF",
        width=width,
        height=height,
        bits=max(bits),
        channels=_number(first, _SAMPLES, len(bits)),
        num_frames=num_pages,
        is_lossy=compression in _LOSSY,
        is_inverted=photometric == 0 and max(bits) == 16,
        has_premultiplied_alpha=1 in extra,
        refusal=refusal,
    )


def _read_ifd(data: bytes, at: int, order: str, is_big: bool) -> tuple[_Ifd | None, int]:
    """The tags of a directory by number, and the place of the next one; None where it is damaged.

    A tag that matters comes twice, or the tags together have more bytes than the file: Pillow before 13 reads them all into memory.
    """
    count_format, entry_format, wide = ("Q", "HHQ", "Q") if is_big else ("H", "HHI", "I")
    head, value_bytes = struct.calcsize(f"={entry_format}"), struct.calcsize(f"={wide}")
    (count,) = struct.unpack_from(order + count_format, data, at)
    at += struct.calcsize(f"={count_format}")
    if count > _MAX_ENTRIES:
        return None, 0
    tags: dict[int, tuple[int, ...]] = {}
    num_bytes = 0
    for _ in range(count):
        tag, kind, number = struct.unpack_from(order + entry_format, data, at)
        num_bytes += number * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 0)
        if num_bytes > len(data):
            return None, 0
        if tag in _PARTS:
            tags[tag] = (number,)
        elif kind not in _BYTES and number > _MAX_NUMBERS:
            tags[_EXCESS] = (number,)
        elif tag in _READ and kind in _TYPES:
            if tag in tags:  # decoders differ on which of them counts
                return None, 0
            number = min(number, _MAX_VALUES)
            size = number * struct.calcsize(f"={_TYPES[kind]}")
            place = at + head
            if size > value_bytes:
                (place,) = struct.unpack_from(order + wide, data, place)
            tags[tag] = struct.unpack_from(f"{order}{number}{_TYPES[kind]}", data, place)
        at += head + value_bytes
    (following,) = struct.unpack_from(order + wide, data, at)
    return tags, following


def _is_bounded(data: bytes, at: int, order: str, is_big: bool) -> bool:
    """Whether the tags of a directory have no more bytes than the file; one that lies outside it has none."""
    try:
        return _read_ifd(data, at, order, is_big)[0] is not None
    except (struct.error, OverflowError):
        return True


def _number(tags: _Ifd, tag: int, default: int = 0) -> int:
    return (tags.get(tag) or (default,))[0]


def _find_raw(data: bytes, first: _Ifd, order: str, is_big: bool) -> Refusal | None:
    """The refusal of a camera's RAW file, which is a TIFF whose first picture is often a thumbnail."""
    if _DNG in first:
        return Refusal.raw("DNG")
    maker = _find_maker(data)
    if _number(first, _PHOTOMETRIC) in _SENSOR or _number(first, _SUBFILE) & 1:
        return Refusal.raw(maker)
    if _MAKE not in first:
        return None
    for at in first.get(_SUB_IFDS, ())[:_MAX_SUB_IFDS]:
        try:
            inner, _ = _read_ifd(data, at, order, is_big)
        except (struct.error, OverflowError):
            inner = None
        # A picture that is no smaller copy of the first one is the sensor's.
        if inner is None or _number(inner, _PHOTOMETRIC) in _SENSOR or not _number(inner, _SUBFILE) & 1:
            return Refusal.raw(maker)
    return None


def _find_maker(data: bytes) -> str:
    names = {b"NIKON": "NEF", b"SONY": "ARW", b"PENTAX": "PEF", b"RICOH": "PEF", b"SAMSUNG": "SRW"}
    start = data[:4096].upper()
    return next((name for maker, name in names.items() if maker in start), "a kind of TIFF")


def _find_unsupported(first: _Ifd, photometric: int, compression: int, *, is_little_endian: bool) -> Refusal | None:
    """The refusal of a layout that would not be decoded to the file's own levels."""
    bits, extra = first.get(_BITS, (1,)), first.get(_EXTRA, ())
    if photometric not in (0, 1, 2, 3, 6):
        return Refusal.colour(_COLOURS.get(photometric, f"an unknown kind of ({photometric})"))
    formats = set(first.get(_SAMPLE_FORMAT, ())) - {1, 4}
    if formats:
        return Refusal.depth(_SAMPLE_FORMATS.get(min(formats), "levels of an unknown type"))
    if compression not in _COMPRESSIONS:
        return Refusal.layout(
            f"is a TIFF in compression {compression}",
            "no compression, LZW, deflate, PackBits, JPEG, CCITT, Zstandard, LZMA or WebP",
            "save it with LZW compression",
        )
    if len(set(bits)) > 1 or max(bits, default=1) not in (1, 2, 4, 8, 16):
        return Refusal.depth(f"{'/'.join(map(str, bits))} bits per channel")
    samples = _number(first, _SAMPLES, len(bits))
    colours = 3 if photometric in (2, 6) else 1
    if samples - colours != len(extra) and (photometric, samples, len(extra)) != (2, 4, 0):
        return Refusal.layout(
            f"is a TIFF of {samples} channels, {len(extra)} of them marked as extra",
            f"{colours} channels and those that are marked as extra",
            "save it again as a TIFF or PNG in RGB",
        )
    is_plain = colours == 3 and photometric == 2 and extra in ((), (2,))
    if _number(first, _PLANAR, 1) == 2 and samples > 1 and not is_plain:
        return Refusal.layout(
            "is a TIFF with extra channels or YCbCr colour in separate planes",
            "interleaved channels (per pixel)",
            "save it with interleaved channels, or as a PNG",
        )
    if colours == 1 and 1 in extra:
        return Refusal.premultiplied()
    if max(bits) == 16:
        return _find_unsupported_16_bits(first, photometric, samples, is_little_endian=is_little_endian)
    return None


def _find_unsafe(first: _Ifd, photometric: int, compression: int) -> Refusal | None:
    """The refusal of a layout that the installed Pillow would read beyond its memory."""
    import PIL

    is_strict = _TILE_WIDTH not in first and photometric != 6 and compression in _STRICT_COMPRESSIONS
    if is_strict or int(PIL.__version__.partition(".")[0]) >= _SAFE_PILLOW:
        return None
    return Refusal.layout(
        f"is a TIFF in tiles, YCbCr or a compression that Pillow {PIL.__version__} does not read safely",
        f"Pillow {_SAFE_PILLOW} or newer, or a TIFF in strips with LZW compression",
        f'run `pip install "pillow>={_SAFE_PILLOW}"`, or save it as a PNG',
    )


def _find_unsupported_16_bits(first: _Ifd, photometric: int, samples: int, *, is_little_endian: bool) -> Refusal | None:
    if photometric in (3, 6):
        return Refusal.depth("16 bits per channel in a palette or in YCbCr")
    if photometric == 0 and not is_little_endian:
        return Refusal.depth("16-bit levels in big-endian order in which 0 is white")
    if (photometric in (0, 1) and samples > 1) or samples > 4:
        return Refusal.depth(f"16 bits per channel in {samples} channels")
    if _number(first, _PLANAR, 1) == 2 and samples > 1:
        return Refusal.depth("16 bits per channel in separate planes")
    if _number(first, _FILL_ORDER, 1) != 1:
        return Refusal.depth("16 bits per channel in reversed bit order")
    return None
