"""EXIF that Pillow's readers of JPEG and AVIF parse while they open a file: before release 13 in time and memory beyond any file's size."""

from __future__ import annotations

from typing import Final

from alterbute.images.files.header_type import TooComplexError
from alterbute.images.files.heif.item_boxes import find_box, read_contents, read_items

_REPEATED_PREFIX: Final = 3 * b"Exif\0\0"
_PREFIX: Final = b"Exif\0\0"
_APP1: Final = 0xE1


def check_exif_prefix(data: bytes) -> None:
    """Refuse a JPEG or AVIF whose EXIF prefix is repeated: before Pillow 13, its readers take the square of its size (CVE-2026-96643).

    Raises:
        ValueError: it is repeated.
    """
    if _REPEATED_PREFIX in data:
        raise ValueError("the prefix of its EXIF is repeated")


def check_avif_exif(data: bytes) -> None:
    """Refuse an AVIF whose EXIF tags share their bytes, so that their values have together more bytes than all EXIF has.

    Raises:
        ValueError: they share them, or the prefix of the EXIF is repeated.
        OSError: the EXIF lies outside the file.
        TooComplexError: more items than pictures need, or EXIF items that overlap.
    """
    from alterbute.images.metadata.exif_tables import is_bounded, strip_prefix

    check_exif_prefix(data)
    meta = find_box(data, b"meta")
    if meta is None:
        return
    contents = read_contents(data, meta)
    num_bytes = 0
    for number, kind in read_items(meta).kinds.items():
        if kind != b"Exif" or number not in contents:
            continue
        num_bytes += len(contents[number])
        if num_bytes > len(data):
            raise TooComplexError("has EXIF items that overlap")
        # The first four bytes are the place of the TIFF header.
        if not is_bounded(strip_prefix(bytes(contents[number][4:]))):
            raise ValueError("the tags of its EXIF share their bytes")


def bound_jpeg_exif(head: bytes) -> bytes:
    """The segments of a JPEG up to its first scan, without EXIF whose tags share their bytes.

    Args:
        head: The segments, each with its marker; see `JpegFile.head`.

    Raises:
        ValueError: the prefix of the EXIF is repeated.
    """
    from alterbute.images.metadata.exif_tables import is_bounded, strip_prefix

    check_exif_prefix(head)
    segments, at = [], 2
    while at < len(head):
        end = at + 2 + int.from_bytes(head[at + 2 : at + 4])
        segments.append(head[at:end])
        at = end
    # Pillow joins the bodies of all of them.
    own = [segment[1] == _APP1 and segment.startswith(_PREFIX, 4) for segment in segments]
    exif = b"".join(segment[10:] for segment, is_exif in zip(segments, own, strict=True) if is_exif)
    if is_bounded(strip_prefix(exif)):
        return head
    return head[:2] + b"".join(segment for segment, is_exif in zip(segments, own, strict=True) if not is_exif)
