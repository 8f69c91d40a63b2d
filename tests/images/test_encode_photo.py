"""Written files hold every pixel, the colour and the metadata, as readers that share no code with the writers see them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import Photo, check_output, encode, encode_photo, save, save_photo
from alterbute.images.metadata import exif_tables
from alterbute.images.metadata.exif_edit import make_upright
from alterbute.images.metadata.metadata import Metadata
from alterbute.images.output import encode_photo as encoder
from alterbute.images.output.encode_photo import Format
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests.images.read_back import Planes, read_chunks, read_png, read_tags, read_tiff
from tests.support.pictures import noise

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"/><!-- ä -->'.encode()
CHUNKS = ((b"cICP", bytes((12, 13, 0, 1))), (b"gAMA", struct.pack(">I", 45455)))
LOSSLESS: tuple[Format, ...] = ("PNG", "WEBP", "TIFF")


def make_photo(
    dtype: str = "u1", channels: int = 3, height: int = 40, width: int = 48, icc: bytes | None = None
) -> Photo:
    """A photo of a gradient and noise; with alpha, a part of it is transparent over colours."""
    top = np.iinfo(dtype).max
    ramp = np.linspace(0, top, height * width * 3).reshape(height, width, 3)
    grain = np.random.default_rng(0).uniform(0, top / 20, ramp.shape)
    pixels = np.minimum(ramp + grain, top).astype(dtype)
    pixels[: height // 3] = np.random.default_rng(1).integers(0, top + 1, (height // 3, width, 3))
    alpha = np.linspace(0, top, height * width).astype(dtype).reshape(height, width) if channels == 4 else None
    if alpha is not None:
        alpha[: height // 2] = 0
    return Photo(pixels=pixels, alpha=alpha, icc=icc)


def planes_of(photo: Photo) -> Planes:
    return photo.pixels if photo.alpha is None else np.dstack((photo.pixels, photo.alpha))


def make_exif(order: str) -> bytes:
    """EXIF with a caption, a copyright, orientation 6, an exposure time and a latitude, in a byte order."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    main, exif, gps, free = 8, 78, 96, 140
    values = [(270, 2, b"A red cup\0"), (274, 3, 6), (33432, 2, b"(c) me\0"), (34665, 4, exif), (34853, 4, gps)]
    body, extra = struct.pack(f"{order}H", len(values)), b""
    for number, kind, value in values:
        body += struct.pack(f"{order}HHI", number, kind, len(value) if isinstance(value, bytes) else 1)
        if isinstance(value, bytes):
            body += struct.pack(f"{order}I", free + len(extra))
            extra += value
        else:
            body += struct.pack(f"{order}{'I' if kind == 4 else 'Hxx'}", value)
    data = mark + struct.pack(f"{order}I", main) + body + b"\0" * 4
    data = data.ljust(exif, b"\0") + struct.pack(f"{order}HHHIII", 1, 33434, 5, 1, free + len(extra), 0)
    rationals = struct.pack(f"{order}2I", 1, 250) + struct.pack(f"{order}6I", 52, 1, 30, 1, 0, 1)
    data = data.ljust(gps, b"\0") + struct.pack(f"{order}HHHIII", 1, 2, 5, 3, free + len(extra) + 8, 0)
    return data.ljust(free, b"\0") + extra + rationals


FULL = Metadata(
    exif=make_exif(">"),
    xmp=XMP,
    dpi=(300, 72.5),
    texts={"Title": "Tasse für Kaffee", "Comment": "杯", " bad": "x", "k" * 80: "x", "XML:com.adobe.xmp": "twice"},
)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("size", [(40, 48), (1, 1), (7, 1), (1, 9), (700, 900)])
def test_every_sample_comes_back(dtype: str, channels: int, size: tuple[int, int]) -> None:
    photo = make_photo(dtype, channels, *size)
    if size != (700, 900):  # the reader goes byte by byte
        assert np.array_equal(read_png(encode_photo(photo)), planes_of(photo))
    assert np.array_equal(read_tiff(encode_photo(photo, "TIFF")), planes_of(photo))
    if dtype == "u1":
        for format in LOSSLESS:
            with Image.open(io.BytesIO(encode_photo(photo, format, FULL))) as image:
                assert np.array_equal(np.asarray(image), planes_of(photo)), format


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_picture_of_many_strips_is_whole(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alterbute.images.output.raster._STRIP_BYTES", 1000)
    photo = make_photo(dtype, 4)
    data = encode_photo(photo)
    assert [name for name, _ in read_chunks(data)].count(b"IDAT") > 5
    assert np.array_equal(read_png(data), planes_of(photo))
    tiff = encode_photo(photo, "TIFF")
    assert len(read_tags(tiff)[273]) > 5
    assert np.array_equal(read_tiff(tiff), planes_of(photo))


@pytest.mark.parametrize("format", LOSSLESS)
def test_the_same_photo_gives_the_same_bytes(format: Format) -> None:
    assert encode_photo(make_photo(), format, FULL) == encode_photo(make_photo(), format, FULL)


def test_a_png_holds_the_chunks_of_the_photos_colour_and_no_profile_beside_them() -> None:
    photo = Photo(pixels=make_photo().pixels, icc=ICC, color_chunks=CHUNKS)
    chunks = read_chunks(encode_photo(photo))
    assert [chunk for chunk in chunks if chunk[0] in (b"cICP", b"gAMA", b"iCCP")] == list(CHUNKS)
    names = [name for name, _ in chunks]
    assert names.index(b"gAMA") < names.index(b"IDAT")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_the_profile_is_written(dtype: str) -> None:
    photo = make_photo(dtype, icc=ICC)
    profile = dict(read_chunks(encode_photo(photo)))[b"iCCP"]
    name, _, packed = profile.partition(b"\0")
    assert name
    assert packed[0] == 0
    assert zlib.decompress(packed[1:]) == ICC
    assert read_tags(encode_photo(photo, "TIFF"))[34675] == ICC
    assert 34675 not in read_tags(encode_photo(make_photo(dtype), "TIFF"))


def test_pillow_sees_profile_exif_xmp_and_resolution() -> None:
    photo = make_photo(icc=ICC)
    for format in LOSSLESS:
        with Image.open(io.BytesIO(encode_photo(photo, format, FULL))) as image:
            assert image.info["icc_profile"] == ICC
            assert image.getexif()[270] == "A red cup"
            assert image.getexif().get(274, 1) == 1
            assert image.getexif().get_ifd(34665)[33434] == 1 / 250
            assert image.getexif().get_ifd(34853)[2] == (52, 30, 0)
            assert image.info["xmp"] == XMP
            if format != "WEBP":
                assert image.info["dpi"] == pytest.approx((300, 72.5), abs=0.02)


def test_metadata_of_a_png_is_in_the_chunks_of_the_specification() -> None:
    chunks = read_chunks(encode_photo(make_photo("u2"), "PNG", FULL))
    names = [name for name, _ in chunks]
    assert names.count(b"iTXt") == 2
    assert max(map(names.index, (b"pHYs", b"eXIf", b"iTXt"))) < names.index(b"IDAT")
    assert (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) in chunks
    assert (b"iTXt", "Comment\0\0\0\0\0杯".encode()) in chunks
    assert [body for name, body in chunks if name == b"tEXt"] == ["Title\0Tasse für Kaffee".encode("latin-1")]
    assert dict(chunks)[b"pHYs"] == struct.pack(">IIB", 11811, 2854, 1)
    assert dict(chunks)[b"eXIf"] == make_upright(FULL.exif or b"")


@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_of_a_tiff_is_in_its_tags(order: str) -> None:
    metadata = Metadata(exif=make_exif(order), xmp=XMP, dpi=(300, 72.5))
    data = encode_photo(make_photo("u2"), "TIFF", metadata)
    tags = read_tags(data)
    assert (tags[270], tags[33432], tags[700]) == (b"A red cup\0", b"(c) me\0", XMP)
    assert (tags[282], tags[283], tags[296]) == ((300, 1), (145, 2), (2,))
    assert 274 not in tags
    assert read_tags(data, tags[34665][0])[33434] == (1, 250)
    assert read_tags(data, tags[34853][0])[2] == (52, 1, 30, 1, 0, 1)


def test_no_metadata_is_written_unless_it_is_given() -> None:
    photo = Photo(pixels=make_photo().pixels, metadata=FULL)
    for format in LOSSLESS:
        assert b"red cup" not in encode_photo(photo, format)
    assert {name for name, _ in read_chunks(encode_photo(photo))} == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize("dpi", [(0, 0), (-1, 72), (float("nan"), 72), (float("inf"), 72), (1e12, 1e12)])
def test_a_resolution_that_no_file_can_hold_is_left_out(dpi: tuple[float, float]) -> None:
    metadata = Metadata(dpi=dpi)
    assert b"pHYs" not in dict(read_chunks(encode_photo(make_photo(), "PNG", metadata)))
    assert 282 not in read_tags(encode_photo(make_photo(), "TIFF", metadata))


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"II*\0\x08\0\0\0" + tail)))
def test_broken_exif_does_not_cost_the_file(exif: bytes) -> None:
    for damaged in (exif, make_exif("<")[: len(exif)] + exif):
        data = encode_photo(make_photo(height=2, width=2), "TIFF", Metadata(exif=damaged))
        assert read_tiff(data).shape == (2, 2, 3)


def test_entries_that_share_their_bytes_do_not_multiply_them() -> None:
    entries = b"".join(struct.pack("<HHII", number, 7, 1 << 19, 8) for number in range(30000))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 30000) + entries
    exif = exif.ljust(1 << 20, b"\0")
    assert sum(len(tag.data) for tag in exif_tables.read_tags(exif).values()) <= len(exif)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("format", LOSSLESS)
def test_a_pillow_picture_keeps_its_colours(mode: str, format: Format) -> None:
    image = Image.fromarray(noise(40, 48, 4)).convert("RGBA" if mode in ("LA", "RGBA") else "RGB").convert(mode)
    image.info["icc_profile"] = ICC
    with Image.open(io.BytesIO(encode(image, format))) as read:
        assert np.array_equal(np.asarray(read.convert("RGBA")), np.asarray(image.convert("RGBA")))
        assert read.info["icc_profile"] == ICC
        if mode in ("1", "L") and format != "WEBP":
            assert read.mode == "L"


def refuse(photo: Photo, format: Format) -> InputError:
    with pytest.raises(InputError) as caught:
        encode_photo(photo, format)
    assert caught.value.param == "output"
    return caught.value


def test_webp_refuses_what_it_cannot_hold_and_names_formats_that_can() -> None:
    deep = refuse(make_photo("u2"), "WEBP")
    assert (deep.code, deep.seen) == ("output_depth", "the result has 16 bits")
    wide = refuse(Photo(pixels=np.zeros((1, 16384, 3), np.uint8)), "WEBP")
    assert wide.code == "output_size"
    assert "16383" in wide.seen
    assert ".png or .tif" in deep.expected
    assert ".png or .tif" in wide.expected


def test_a_tiff_over_4_gib_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alterbute.images.output.tiff_writer._MAX_BYTES", 100)
    assert refuse(make_photo(), "TIFF").code == "output_size"


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif", ".tiff", ".PNG", ".TIF"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_saved_file_has_the_bytes_of_the_encoder(tmp_path: Path, ending: str, channels: int) -> None:
    photo = make_photo(channels=channels, icc=ICC)
    format = LOSSLESS[(".png", ".webp", ".tif").index(ending.lower()[:5].replace(".tiff", ".tif"))]
    path = save_photo(photo, tmp_path / f"photo{ending}", FULL)
    assert path.read_bytes() == encode_photo(photo, format, FULL)
    path = save(photo.to_pil(), tmp_path / f"picture{ending}")
    assert path.read_bytes() == encode(photo.to_pil(), format)
    assert path.read_bytes() == encode_photo(photo, format)


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".gif", ".avif", ""])
def test_a_lossy_or_unknown_ending_is_refused_before_any_work(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match="lossless") as caught:
        check_output(tmp_path / f"out{ending}")
    assert caught.value.code == "output_format"


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(encoder, "write_png", fail)
    with pytest.raises(InputError if isinstance(fault, OSError) else type(fault)):
        save_photo(make_photo(), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_photo_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="16 bits"):
        save_photo(make_photo("u2"), tmp_path / "out.webp")
    assert not list(tmp_path.iterdir())
