"""Files of the libraries and programs that write many formats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.picture_files.expectations import Levels
from benchmarks.picture_files.source import RGB8
from benchmarks.picture_files.tools import imagemagick, pnm, run


def magick(*options: str, to: str, levels: Levels = RGB8) -> bytes:
    """A file by ImageMagick.

    Args:
        options: Its operators.
        to: The file's ending, or `FORMAT:ending`.
        levels: HW, HW3 or HW4.
    """
    return imagemagick(pnm(levels), "pam" if levels.ndim == 3 and levels.shape[2] == 4 else "pnm", *options, to=to)


def graphicsmagick(ending: str, *options: str) -> bytes:
    """A file by GraphicsMagick."""
    return run("gm", "convert", *options, "in.ppm", f"out.{ending}", files={"in.ppm": pnm(RGB8)}, out=f"out.{ending}")


def codecs(function: str, levels: Levels = RGB8, **options: Any) -> bytes:
    """A file by imagecodecs.

    Args:
        function: The format's name there.
        levels: HW, HW3 or HW4.
        options: Of that encoder.
    """
    import imagecodecs

    return bytes(getattr(imagecodecs, f"{function}_encode")(levels, **options))


def opencv(ending: str, levels: Levels = RGB8, *options: int) -> bytes:
    """A file by OpenCV, whose colours are in the order blue, green, red.

    Args:
        ending: The file's, with a dot.
        levels: HW, HW3 or HW4.
        options: Pairs of an option and its value.
    """
    import cv2

    stored = levels if levels.ndim == 2 else levels[:, :, [2, 1, 0, 3][: levels.shape[2]]]
    return bytes(cv2.imencode(ending, np.ascontiguousarray(stored), list(options))[1])


def ffmpeg(ending: str, *options: str, levels: Levels = RGB8, program: str = "ffmpeg") -> bytes:
    """A file by ffmpeg.

    Args:
        ending: The file's.
        options: Of the output.
        levels: HW, HW3 or HW4.
        program: `ffmpeg`, or `new-ffmpeg`, the one of imageio-ffmpeg.
    """
    name = "in.pgm" if levels.ndim == 2 else "in.ppm" if levels.shape[2] == 3 else "in.pam"
    command = (program, "-i", name, *options, "-frames:v", "1", f"out.{ending}")
    return run(*command, files={name: pnm(levels)}, out=f"out.{ending}")


def two_frames(format: str) -> bytes:
    """An animation by Pillow."""
    buffer = io.BytesIO()
    second = Image.fromarray(np.ascontiguousarray(RGB8[::-1]))
    Image.fromarray(RGB8).save(buffer, format, save_all=True, append_images=[second], duration=100)
    return buffer.getvalue()


def in_mode(image: Image.Image, format: str, **options: Any) -> bytes:
    """A Pillow picture as a file in its own mode.

    Args:
        image: The picture.
        format: Pillow's name of the format.
        options: Of that writer.
    """
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def half(data: bytes) -> bytes:
    """The first half of a file."""
    return data[: len(data) // 2]
