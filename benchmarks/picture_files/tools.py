"""Running encoders and decoders that are not part of this project: programs, and Python packages."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Expected, Levels
from benchmarks.picture_files.source import RGB8

_TIMEOUT_S: Final = 120
_IMAGEMAGICK: Final = ("magick", "convert-im6.q16", "convert")


class NotMade(Exception):
    """An encoder is missing, or its file is not what it was asked for."""


def run(*command: str | Path, files: dict[str, bytes] | None = None, out: str = "") -> bytes:
    """Run a program in an empty folder.

    Args:
        command: Program and arguments; `imagemagick` and `ffmpeg` stand for whatever is installed.
        files: Files that it finds there.
        out: The file that it writes; empty = its standard output is the result.
    """
    words = [str(word) for word in command]
    words[0] = _find(words[0])
    with tempfile.TemporaryDirectory(prefix="picture_files-") as folder:
        for name, data in (files or {}).items():
            Path(folder, name).write_bytes(data)
        try:
            process = subprocess.run(words, cwd=folder, capture_output=True, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise NotMade(f"{words[0]} ran over {_TIMEOUT_S} s") from None
        path = Path(folder, out)
        if out and path.is_file() and path.stat().st_size:
            return path.read_bytes()
        if out or process.returncode:
            last = (process.stderr or process.stdout).decode("utf-8", "replace").strip().splitlines()[-1:]
            raise NotMade(f"{Path(words[0]).name} failed: {' '.join(last)}")
        return process.stdout


def _find(program: str) -> str:
    if program == "imagemagick":
        found = next(filter(None, map(shutil.which, _IMAGEMAGICK)), None)
    elif program == "new-ffmpeg":
        found = _bundled_ffmpeg()
    else:
        found = shutil.which(program)
    if found is None:
        raise NotMade(f"{program} is not installed")
    return found


def _bundled_ffmpeg() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


def version_of(encoder: str) -> str:
    """The version line of an encoder of the campaign; empty where it is missing."""
    for flags in (("-version",), ("--version",), ("-V",), ("-ver",), ("version",)):
        try:
            program = _find(encoder)
            process = subprocess.run([program, *flags], capture_output=True, check=False, timeout=20)
        except (NotMade, OSError, subprocess.TimeoutExpired):
            return ""
        text = (process.stdout + process.stderr).decode("utf-8", "replace").strip()
        if process.returncode == 0 and text:
            return text.splitlines()[0][:100]
    return "unknown"


def pnm(levels: Levels) -> bytes:
    """An array as PGM, PPM or PAM, which every program reads."""
    height, width = levels.shape[:2]
    top = np.iinfo(levels.dtype).max
    body = levels.astype(">u2").tobytes() if top > 255 else levels.tobytes()
    channels = 1 if levels.ndim == 2 else levels.shape[2]
    if channels in (2, 4):
        kind = "GRAYSCALE_ALPHA" if channels == 2 else "RGB_ALPHA"
        head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL {top}\nTUPLTYPE {kind}\nENDHDR\n"
    else:
        head = f"P{5 if channels == 1 else 6}\n{width} {height}\n{top}\n"
    return head.encode() + body


def pillow(levels: Levels, format: str, **options: Any) -> bytes:
    """An array as a file that Pillow writes.

    Args:
        levels: HW, HW2, HW3 or HW4.
        format: Pillow's name of the format.
        options: Of that writer.
    """
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format, **options)
    return buffer.getvalue()


def read_plain(data: bytes) -> Levels:
    """The levels of a PNG, PPM or TIFF that a reference decoder wrote, of 8 or 16 bits, read by OpenCV."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise NotMade("the reference picture cannot be read")
    array: Levels = np.asarray(image)
    return array if array.ndim == 2 else np.ascontiguousarray(array[:, :, [2, 1, 0, 3][: array.shape[2]]])


def reference(decode: Callable[[bytes], bytes], tolerance: float, **fields: Any) -> Callable[[bytes], Expected]:
    """How to find out what a lossy file holds: by another decoder, whose result must resemble the source.

    Args:
        decode: Turns the file's bytes into a PNG or PNM, upright.
        tolerance: Of the comparison with this decoder.
        fields: Fields of `Expected`; `tone` is a function from the decoder's levels to sRGB, `like` a picture that they resemble.
    """
    tone, like = fields.pop("tone", None), fields.pop("like", RGB8)

    def expect(data: bytes) -> Expected:
        levels = read_plain(decode(data))
        pixels = np.repeat(levels[:, :, None], 3, axis=2) if levels.ndim == 2 else levels[:, :, :3]
        alpha = levels[:, :, 3] if levels.ndim == 3 and levels.shape[2] == 4 else None
        seen = alpha > 0 if alpha is not None else np.ones(pixels.shape[:2], bool)
        to8 = np.iinfo(pixels.dtype).max / 255
        if pixels.shape != like.shape or not _resembles(pixels / to8, like.astype(float), seen):
            raise NotMade("the reference decoder's picture does not resemble the source")
        srgb = None if tone is None else tone(pixels)
        return Expected(pixels=pixels, alpha=alpha, srgb=srgb, tolerance=tolerance, **fields)

    return expect


def reference_of_many_bits(decode: Callable[[bytes], bytes], tolerance: float) -> Callable[[bytes], Expected]:
    """What a lossy file of 10 or 12 bits holds, found out as `reference` does; it may also be refused by its depth."""
    return reference(decode, tolerance, word="bits")


def _resembles(pixels: Levels, like: Levels, seen: Levels) -> bool:
    """Whether a picture is near another one, and nearer to it than to its mirror images."""
    mirrored = (like[::-1], like[:, ::-1], like[::-1, ::-1])
    distance = float(np.abs(pixels - like)[seen].mean())
    return distance < 20 and all(distance <= np.abs(pixels - other)[seen].mean() for other in mirrored)


def djpeg(data: bytes) -> bytes:
    """A JPEG as PPM or PGM, by libjpeg-turbo's own program."""
    return run("djpeg", "-pnm", "in.jpg", files={"in.jpg": data})


def imagemagick(data: bytes, ending: str, *options: str, to: str = "png") -> bytes:
    """A file converted by ImageMagick.

    Args:
        data: The file.
        ending: Its ending, which names its format.
        options: ImageMagick's operators.
        to: Ending of the result, or `FORMAT:`.
    """
    prefix, _, name = to.rpartition(":")
    out = f"out.{name or prefix.lower()}"
    target = f"{prefix}:{out}" if prefix else out
    result = run("imagemagick", f"in.{ending}", *options, target, files={f"in.{ending}": data}, out=out)
    if result[:2] in (b"P5", b"P6", b"P7") and out[-3:] not in ("pgm", "ppm", "pam"):
        raise NotMade(f"this ImageMagick does not write {target}")
    return result


def split_png(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of a PNG's chunks."""
    at, chunks = 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def join_png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        parts += [len(body).to_bytes(4), name, body, zlib.crc32(name + body).to_bytes(4)]
    return b"".join(parts)


def add_png_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks after its header, in place of those of the same names."""
    names = {name for name, _ in chunks}
    header, *rest = split_png(data)
    return join_png([header, *chunks, *(chunk for chunk in rest if chunk[0] not in names)])


def vips_image(levels: Levels) -> Any:
    """An array as a picture of libvips."""
    import pyvips

    image = pyvips.Image.new_from_array(levels)
    return image.copy(
        interpretation={1: "b-w", 3: "srgb", 4: "srgb"}[image.bands]
        if levels.dtype == np.uint8
        else {1: "grey16", 3: "rgb16", 4: "rgb16"}[image.bands]
    )


def vips_profile(name: str) -> bytes:
    """A profile that comes with libvips: `p3`, `srgb` or `cmyk`."""
    import pyvips

    profile: bytes = pyvips.Operation.call("profile_load", name)
    return bytes(profile)


def vips_to_srgb(levels: Levels, icc: bytes) -> Levels:
    """Levels of a profile's space in sRGB, uint8, by libvips' colour management."""
    image = vips_image(levels).copy()
    image.set_type(_blob_type(), "icc-profile-data", icc)
    converted = image.icc_transform("srgb", intent="relative", embedded=True).numpy()
    if converted.dtype == np.uint16:
        converted = np.rint(converted / 257).astype(np.uint8)
    result: Levels = (
        converted
        if converted.ndim == 3 and converted.shape[2] == 3
        else np.repeat(converted.reshape(*levels.shape[:2], 1), 3, axis=2)
    )
    return result


def _blob_type() -> Any:
    import pyvips

    return pyvips.GValue.blob_type


def system_profile(name: str) -> bytes:
    """A profile of Debian's package icc-profiles-free, or of Ghostscript."""
    for folder in ("/usr/share/color/icc", "/usr/share/color/icc/ghostscript"):
        if Path(folder, name).is_file():
            return Path(folder, name).read_bytes()
    raise NotMade(f"no profile {name}")


def exiftool(data: bytes, ending: str, *options: str, files: dict[str, bytes] | None = None) -> bytes:
    """A file whose tags exiftool changed.

    Args:
        data: The file.
        ending: Its ending.
        options: exiftool's options.
        files: Other files that it reads, such as a profile.
    """
    name = f"in.{ending}"
    return run(
        "exiftool",
        "-q",
        "-m",
        *options,
        "-o",
        f"out.{ending}",
        name,
        files={name: data, **(files or {})},
        out=f"out.{ending}",
    )
