"""EXIF that would take Pillow much more than its size to read is left out, or its file refused."""

from __future__ import annotations

import struct

import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.pillow.bounded_exif import bound_jpeg_exif
from alterbute.images.metadata import read_metadata_blocks
from alterbute.images.metadata.exif_tables import bound_exif, is_bounded
from PIL import ExifTags

from tests.support.pictures import noise, to_bytes


def _shared_tags(count: int, size: int) -> bytes:
    """EXIF whose tags all have the same bytes as their value."""
    rows = b"".join(struct.pack("<HHII", 40000 + index, 7, size, 14 + 12 * count) for index in range(count))
    return struct.pack("<4sIH", b"II*\0", 8, count) + rows + bytes(4 + size)


def test_exif_that_would_take_much_more_than_its_size_to_read_is_left_out() -> None:
    info = {"exif": b"Exif\0\0" + _shared_tags(2000, 100_000)}
    bound_exif(info)
    assert info == {}
    pointed = _shared_tags(2000, 100_000)
    inner = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, ExifTags.IFD.Exif, 4, 1, 26, 0)
    info = {"exif": inner + pointed[8:]}
    bound_exif(info)
    assert info == {}
    sound = _shared_tags(1, 100_000)
    for prefix, kept in ((b"", b""), (b"Exif\0\0", b"Exif\0\0"), (b"Exif\0\0" * 100_000, b"Exif\0\0")):
        info = {"exif": prefix + sound}
        bound_exif(info)
        assert info == {"exif": kept + sound}
    assert read_metadata_blocks(b"Exif\0\0" * 100_000 + sound, None).exif == sound


@pytest.mark.parametrize("order", [b"II*\0", b"II\0*", b"MM\0*", b"MM*\0"])
def test_exif_that_pillow_reads_at_once_is_left_out_of_a_jpeg_and_refused_in_an_avif(order: bytes) -> None:
    endian = "<" if order.startswith(b"I") else ">"
    rows = b"".join(struct.pack(f"{endian}HHII", 40000 + tag, 7, 20_000, 8) for tag in range(1000))
    crafted = order + struct.pack(f"{endian}IH", 8, 1000) + rows + bytes(20_000)
    assert not is_bounded(crafted)
    whole = to_bytes(noise(40, 48), "JPEG")
    segments = b"".join(
        b"\xff\xe1" + (8 + len(part)).to_bytes(2) + b"Exif\0\0" + part for part in (crafted[:9999], crafted[9999:])
    )
    assert bound_jpeg_exif(whole[:2] + segments + whole[2:20]) == whole[:20]
    assert load_photo(whole[:2] + segments + whole[2:]).pixels.tobytes() == load_photo(whole).pixels.tobytes()
    sound = struct.pack("<4sIHHHII", b"II*\0", 8, 1, 0x010E, 2, 4, 0x41414141).ljust(len(crafted), b"\0")
    data = to_bytes(noise(40, 48), "AVIF", exif=sound)
    assert load_photo(data).pixels.shape == (40, 48, 3)
    with pytest.raises(InputError, match="share their bytes"):
        load_photo(data.replace(sound, crafted))


@pytest.mark.parametrize("format", ["JPEG", "AVIF"])
def test_a_repeated_exif_prefix_is_refused_where_pillow_reads_exif_at_once(format: str) -> None:
    data = bytearray(to_bytes(noise(40, 48), format))
    with pytest.raises(InputError, match="prefix of its EXIF is repeated"):
        load_photo(
            bytes(data[:2] + b"\xff\xe1\0\x20" + b"Exif\0\0" * 5 + data[2:])
            if format == "JPEG"
            else bytes(data) + b"Exif\0\0" * 5
        )
