"""JPEG files of every encoder that is installed, and the same files damaged in such a way that they still end as a JPEG does."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from alterbute.images.files.jpeg.jpeg_markers import JpegFile, read_jpeg
from alterbute.images.photo import Bytes
from PIL import Image

END = b"\xff\xd9"
CJPEG = (
    *("-baseline", "-progressive", "-arithmetic", "-arithmetic -progressive", "-restart 1", "-restart 3B", "-optimize"),
    *(
        "-restart 1B -progressive",
        "-restart 2B -arithmetic",
        "-sample 1x1",
        "-sample 2x1",
        "-sample 1x2",
        "-sample 4x1",
    ),
    *("-sample 1x4", "-sample 4x2", "-sample 2x2,1x1,2x2", "-sample 3x1", "-sample 2x1,2x1,2x1", "-sample 2x2,1x2,1x2"),
    *("-sample 4x2 -progressive", "-sample 3x1 -arithmetic", "-sample 4x2 -restart 1", "-grayscale", "-rgb"),
    *("-rgb -progressive", "-grayscale -progressive", "-grayscale -arithmetic", "-dct float"),
)
CONVERT = (
    "-interlace none",
    "-interlace plane",
    "-sampling-factor 4:2:2",
    "-colorspace gray",
    "-define jpeg:arithmetic-coding=on",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoundJpeg:
    """A JPEG with all of its pixels: the words that made it, and its bytes."""

    name: str
    data: bytes

    @property
    def is_arithmetic(self) -> bool:
        """Whether it is in arithmetic code, whose last bytes an encoder may leave out."""
        return read_jpeg(self.data).frame_marker >= 0xC9

    @property
    def pixels(self) -> Bytes:
        """HW3 uint8, as Pillow decodes it."""
        with Image.open(io.BytesIO(self.data)) as image:
            return np.asarray(image.convert("RGB"))


def picture(height: int, width: int, seed: int, noise: float) -> Bytes:
    """Waves and noise, HW3 uint8: code at every place of the file."""
    down, across = np.mgrid[:height, :width]
    waves = np.stack([128 + 100 * np.sin(across / 9), 128 + 100 * np.cos(down / 7), (across * 3 + down) % 256], 2)
    levels = waves + np.random.default_rng(seed).normal(0, noise, waves.shape)
    return np.clip(levels, 0, 255).astype(np.uint8)


def sound_jpegs(count: int, seed: int = 0, *, low: int = 1) -> Iterator[SoundJpeg]:
    """Files of all encoders in turn, of odd sizes 32..140 and qualities `low`..100.

    Args:
        count: How many.
        seed: Seed of sizes, qualities and noise.
        low: Lowest quality.
    """
    generator = random.Random(seed)
    for number in range(count):
        height, width = generator.randint(32, 140), generator.randint(32, 140)
        pixels = picture(height, width, seed + number, generator.choice((2, 8, 20)))
        ways = list(_list_ways())
        name, words = ways[number % len(ways)]
        quality = generator.randint(low, 100)
        data = _encode(name, words, pixels, quality)
        ending = generator.choice(("", "", "zeros", "trailing", "two", "fill"))
        if ending == "zeros" and len(read_jpeg(data).scans) == 1 and "arith" not in words:
            data = data[:-2] + bytes(generator.randint(1, 200)) + END
        elif ending == "trailing":
            data += generator.randbytes(200)
        elif ending == "two":  # as MPO files have it
            data += data
        elif ending == "fill":
            data = data[:-2] + b"\xff" + END
        yield SoundJpeg(name=f"{name} {words} quality {quality} {width}x{height} {ending}", data=data)


def _list_ways() -> Iterator[tuple[str, str]]:
    """Encoders that are there, and words for how they are called."""
    for words in (
        "",
        "progressive",
        "optimize",
        "subsampling0",
        "subsampling1",
        "restart1",
        "progressive restart2",
        "grey",
        "mpo",
        "exif",
    ):
        yield "pillow", words
    for words in ("444", "422", "420", "440", "411", "Gray"):
        yield "simplejpeg", words
    for program, calls in (("cjpeg", CJPEG), ("convert", CONVERT)):
        if shutil.which(program):
            for words in calls:
                yield program, words
    try:
        import mozjpeg_lossless_optimization  # noqa: F401
    except ImportError:
        return
    for words in ("", "grey", "subsampling0"):
        yield "mozjpeg", words


def _encode(name: str, words: str, pixels: Bytes, quality: int) -> bytes:
    if name == "simplejpeg":
        grey = np.ascontiguousarray(pixels[:, :, :1])
        data: bytes = (
            simplejpeg.encode_jpeg(grey, quality=quality, colorspace="GRAY")
            if words == "Gray"
            else simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=words)
        )
        return data
    if name in ("cjpeg", "convert"):
        source = io.BytesIO()
        Image.fromarray(pixels).save(source, "PPM")
        call = (
            [name, "-quality", str(quality), *words.split()]
            if name == "cjpeg"
            else [name, "ppm:-", "-quality", str(quality), *words.split(), "jpeg:-"]
        )
        return subprocess.run(call, input=source.getvalue(), capture_output=True, check=True).stdout
    options: dict[str, object] = {"progressive": "progressive" in words, "optimize": "optimize" in words}
    for level in "01":
        if f"subsampling{level}" in words:
            options["subsampling"] = int(level)
        if f"restart{int(level) + 1}" in words:
            options["restart_marker_blocks"] = int(level) + 1
    if words == "exif":
        exif = Image.Exif()
        exif[0x010E] = "a picture"
        options |= {"exif": exif, "icc_profile": bytes(70_000)}
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    image = image.convert("L") if words == "grey" else image
    image.save(file, "MPO" if words == "mpo" else "JPEG", quality=quality, **options)
    if name == "mozjpeg":
        import mozjpeg_lossless_optimization

        smaller: bytes = mozjpeg_lossless_optimization.optimize(file.getvalue())
        return smaller
    return file.getvalue()


def damaged_jpegs(sound: SoundJpeg, generator: random.Random) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, file) of a JPEG in every way in which its container is still whole; none has the pixels of the sound file."""
    file = read_jpeg(sound.data)
    data, end = sound.data, file.scans[-1].data_end
    # The last bytes of arithmetic code may be left out.
    kept = 60 if sound.is_arithmetic else 3
    start = file.scans[0].data_at
    for share in sorted(generator.sample(range(4, 97), 6)):
        cut = start + (end - kept - start) * share // 100
        yield f"cut at {share} %", data[:cut] + END
    if len(file.scans) > 1:
        for number, scan in enumerate(file.scans):
            after = file.scans[number + 1].data_at if number + 1 < len(file.scans) else end
            yield f"without scan {number}", data[: _before(file, number)] + data[scan.data_end :]
            if number:
                yield f"only {number} of its scans", data[: _before(file, number)] + END
            else:
                yield (
                    "its first scan twice",
                    data[:after][: scan.data_end] + data[_before(file, 0) : scan.data_end] + data[scan.data_end :],
                )
    # Zeros behind the last pixel are code of further pixels as well.
    if not sound.name.endswith("zeros"):
        yield from _wrong_sizes(sound, file)
    yield from _wrong_restarts(data, file, is_arithmetic=sound.is_arithmetic)


def _before(file: JpegFile, number: int) -> int:
    """Where the segment of a scan starts."""
    return file.scans[number].data_at - len(file.scans[number].header)


def _wrong_sizes(sound: SoundJpeg, file: JpegFile) -> Iterator[tuple[str, bytes]]:
    """Headers of other numbers of units; with as many units a file is another picture and not a damaged one."""
    across, down = (8 * max(getattr(part, side) for part in file.components) for side in ("across", "down"))
    if len(file.components) == 1:
        across = down = 8
    at = sound.data.index(file.frame)
    height, width = file.height, file.width
    for rows, columns in (
        *((height + down, width), (height, width + across), (height - down, width), (height, width - across)),
        *(
            (height // 2, width),
            (height, width // 2),
            (3 * height, width),
            (5000, width),
            (height - down, width + across),
        ),
    ):
        units = [-(-tall // down) * -(-wide // across) for tall, wide in ((rows, columns), (height, width))]
        # Arithmetic code may hold a row of units more or less in bytes that are left out.
        if (
            min(rows, columns) >= 32
            and units[0] != units[1]
            and (not sound.is_arithmetic or abs(units[0] - units[1]) > 12)
        ):
            size = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
            yield f"{columns}x{rows} and not {width}x{height}", sound.data[: at + 5] + size + sound.data[at + 9 :]


def _wrong_restarts(data: bytes, file: JpegFile, *, is_arithmetic: bool) -> Iterator[tuple[str, bytes]]:
    for scan in file.scans:
        places = [int(at) for at in scan.restarts]
        if len(places) < 3:
            continue
        first, second = places[len(places) // 2 - 1], places[len(places) // 2]
        yield "a restart marker less", data[:first] + data[first + 2 :]
        yield "a restart marker twice", data[:first] + data[first : first + 2] + data[first:]
        yield (
            "two restart markers changed",
            (
                data[:first]
                + data[second : second + 2]
                + data[first + 2 : second]
                + data[first : first + 2]
                + data[second + 2 :]
            ),
        )
        yield "a piece of code less", data[:first] + data[second:]
        if not is_arithmetic and second - first > 8:
            yield "the end of a piece less", data[: second - 5] + data[second:]
            yield "more than its pixels in a piece", data[:second] + b"\x12\x34\x56" + data[second:]
            yield "a number of a restart marker", data[: first + 1] + bytes([data[first + 1] ^ 1]) + data[first + 2 :]
