"""PNG at every depth gives the file's own levels, whatever its filters and passes."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import Photo, load_mask, load_photo
from alterbute.images.files.decode import decode, decode_levels
from alterbute.images.photo import to_8_bits
from numpy.typing import NDArray
from PIL import Image

from tests.support.picture_files import ramps, write_png
from tests.support.pictures import noise, png_chunk, to_bytes


def planes_of(photo: Photo, channels: int) -> NDArray[Any]:
    """A photo's levels in as many channels as its file."""
    colors = photo.pixels[:, :, 0] if channels < 3 else photo.pixels
    return colors if photo.alpha is None else np.dstack((colors, photo.alpha))


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(32, 33), (41, 50), (300, 700)])
def test_16_bits_are_exact(size: tuple[int, int], channels: int, is_interlaced: bool) -> None:
    if size == (300, 700) and (is_interlaced or channels in (1, 4)):
        pytest.skip("one large picture of each kind is enough")
    levels = ramps(*size, channels)
    photo = load_photo(write_png(levels, is_interlaced=is_interlaced))
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels.shape == (*size, 3)
    assert np.array_equal(planes_of(photo, channels), levels)


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize(("bits", "color_type"), [(1, 0), (2, 0), (4, 0), (8, 0), (1, 3), (2, 3), (4, 3), (8, 3)])
def test_few_bits_and_palettes_are_exact(bits: int, color_type: int, is_interlaced: bool) -> None:
    samples = noise(37, 45, 1)[:, :, 0] >> 8 - bits
    palette = noise(1, 1 << bits)[0]
    extra = png_chunk(b"PLTE", palette.tobytes()) if color_type == 3 else b""
    data = write_png(samples, bits, color_type=color_type, is_interlaced=is_interlaced, extra=extra)
    wanted = palette[samples] if color_type == 3 else (samples * (255 // ((1 << bits) - 1)))[:, :, None].repeat(3, 2)
    assert np.array_equal(load_photo(data).pixels, wanted)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(wanted, np.asarray(image.convert("RGB")))
    mask = decode_levels(data, "mask")
    if color_type == 3:
        assert mask.labels is not None
        assert np.array_equal(mask.labels, samples)
    else:
        assert mask.colors is None


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_is_transparent(channels: int, bits: int) -> None:
    levels = ramps(40, 48, channels, np.uint8 if bits == 8 else np.uint16)
    levels[3:9, 4:30] = levels[0, 0]
    key = struct.pack(f">{channels}H", *np.atleast_1d(levels[0, 0]).tolist())
    photo = load_photo(write_png(levels, bits, extra=png_chunk(b"tRNS", key)))
    is_key = (levels.reshape(40, 48, channels) == levels[0, 0]).all(axis=2)
    assert photo.alpha is not None
    assert photo.alpha.dtype == levels.dtype
    assert np.array_equal(photo.alpha == 0, is_key)
    assert int(photo.alpha.max()) == np.iinfo(levels.dtype).max


def test_a_palette_with_transparency_has_it() -> None:
    samples = noise(40, 48, 1)[:, :, 0] >> 6
    extra = png_chunk(b"PLTE", bytes(range(12))) + png_chunk(b"tRNS", bytes([0, 100]))
    photo = load_photo(write_png(samples, 8, color_type=3, extra=extra))
    assert photo.alpha is not None
    assert np.array_equal(photo.alpha, np.array([0, 100, 255, 255], np.uint8)[samples])


def test_masks_of_16_bits_have_their_high_bytes_and_references_are_rounded() -> None:
    photo = Photo(pixels=noise(40, 48))
    mask = np.zeros((40, 48), np.uint16)
    mask[10:20, 10:30] = 65535
    assert np.array_equal(load_mask(write_png(mask), photo), (mask >> 8).astype(np.uint8))
    levels = ramps(40, 48, 4)
    for source in (write_png(levels), levels, load_photo(levels)):
        reference = decode(source, "reference")
        assert np.array_equal(planes_of(reference, 4), to_8_bits(levels))
        assert reference.pixels.dtype == np.uint8
    decoded = decode_levels(write_png(levels), "mask")
    assert decoded.colors is not None
    assert decoded.alpha is not None
    assert np.array_equal(decoded.colors, levels[:, :, :3] >> 8)
    assert np.array_equal(decoded.alpha, levels[:, :, 3] >> 8)
    labels = np.full((40, 48), 3, np.uint16)
    labels[5:9, 5:9] = 200
    assert np.array_equal(decode_levels(write_png(labels), "mask").luminance, labels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("is_behind", [False, True])
def test_16_bits_are_turned_upright_wherever_the_exif_is(orientation: int, is_behind: bool) -> None:
    levels = ramps(40, 48, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    chunk = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data = write_png(levels, extra=b"" if is_behind else chunk)
    data = data[:-12] + chunk + data[-12:] if is_behind else data
    turns = [None, None, 0, 3, 1, 5, 4, 6, 2]
    low, high = (Image.fromarray((levels >> shift & 255).astype(np.uint8)) for shift in (0, 8))
    turn = turns[orientation]
    if turn is not None:
        low, high = (part.transpose(Image.Transpose(turn)) for part in (low, high))
    photo = load_photo(data)
    assert np.array_equal(photo.pixels, np.asarray(high).astype(np.uint16) << 8 | np.asarray(low))
    assert photo.orientation == orientation


def test_an_image_that_pillow_has_not_loaded_gives_its_16_bits_exactly() -> None:
    for channels in (1, 3, 4):
        levels = ramps(40, 48, channels)
        photo = load_photo(Image.open(io.BytesIO(write_png(levels))))
        assert (
            np.array_equal(planes_of(photo, channels), levels)
            if channels > 1
            else np.array_equal(photo.pixels[:, :, 1], levels)
        )


@pytest.mark.parametrize("channels", [3, 4])
def test_arrays_of_16_bits_are_photos(channels: int) -> None:
    levels = ramps(40, 48, channels)
    for array in (levels, levels.astype(">u2")):
        photo = load_photo(array)
        assert photo.pixels.dtype == np.uint16
        assert np.array_equal(planes_of(photo, channels), levels)
    with pytest.raises(InputError, match="uint16 in"):
        load_photo(levels.astype(np.int32))


def test_many_small_chunks_and_a_single_large_one_are_read() -> None:
    pixels = noise(200, 300)
    raw = zlib.compress(b"".join(b"\0" + line.tobytes() for line in pixels))
    head = to_bytes(pixels).partition(b"IDAT")[0][:-4]
    for step in (100, len(raw)):
        parts = b"".join(png_chunk(b"IDAT", raw[at : at + step]) for at in range(0, len(raw), step))
        assert np.array_equal(load_photo(head + parts + png_chunk(b"IEND", b"")).pixels, pixels)
    black = np.zeros((3000, 3000, 3), np.uint8)  # a kilobyte of its file holds a megabyte of pixels
    assert not load_photo(to_bytes(black)).pixels.any()


def test_a_file_of_many_empty_chunks_is_refused_before_it_takes_memory() -> None:
    data = to_bytes(noise(40, 48))
    with pytest.raises(InputError, match="too many chunks"):
        load_photo(data[:33] + png_chunk(b"prVt", b"") * 20_000 + data[33:])
    at = data.index(b"IDAT") - 4
    assert load_photo(data[:at] + png_chunk(b"IDAT", b"") * 20_000 + data[at:]).width == 48


def test_two_headers_are_refused() -> None:
    data = to_bytes(noise(40, 48))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 4000, 4000, 8, 2, 0, 0, 0))
    with pytest.raises(InputError, match="two headers"):
        load_photo(data[:33] + header + data[33:])


MEASURE = """
import sys
import numpy as np
from alterbute.images import load_photo
import PIL.JpegImagePlugin, PIL.PngImagePlugin, PIL.TiffImagePlugin

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

load_photo(np.zeros((64, 64, 3), np.uint8))
before = peak()
photo = load_photo(sys.argv[1])
print((peak() - before) * 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("format", "bytes_per_pixel"), [("PNG", 3), ("JPEG", 7), ("TIFF", 7)])
def test_decoding_takes_little_memory(tmp_path: Any, format: str, bytes_per_pixel: int) -> None:
    path = tmp_path / "photo"
    picture = Image.fromarray(noise(80, 120)).resize((4500, 3000))
    path.write_bytes(to_bytes(picture, format))
    output = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    assert int(output.stdout) <= path.stat().st_size + bytes_per_pixel * 4500 * 3000 + (20 << 20)
