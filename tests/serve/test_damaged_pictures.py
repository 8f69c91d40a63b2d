"""Damaged pictures through every interface: a path, `Image.open`, the command and the server."""

from __future__ import annotations

import collections
import contextlib
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from alterbute.cli import main
from alterbute.errors import InputError
from alterbute.images import Photo, load_photo
from PIL import Image

from tests.support.jpeg_files import SoundJpeg, damaged_jpegs, sound_jpegs
from tests.support.pictures import to_bytes
from tests.support.serving import RunningServer

Damaged = tuple[SoundJpeg, str, bytes]


def list_damaged(count: int) -> Iterator[Damaged]:
    """So many damaged files, of all encoders and kinds of damage."""
    generator, listed = random.Random(7), 0
    for sound in sound_jpegs(10_000, 7, low=60):
        for what, data in damaged_jpegs(sound, generator):
            if listed == count:
                return
            listed += 1
            yield sound, what, data


def post(server: RunningServer, client: httpx.Client, damaged: Damaged, folder: Path) -> bool:
    """Whether the server takes a file; a dry run checks everything and edits nothing."""
    sound, _, data = damaged
    height, width = sound.pixels.shape[:2]
    files = {"image": ("a.jpg", data), "mask": ("m.png", to_bytes(mark(height, width)))}
    reply = client.post("/v1/images/edits", files=files, data={"prompt": "color: red", "dry_run": "true"})
    assert reply.status_code in (200, 400, 413, 422), reply.text
    return reply.status_code == 200


def run_command(server: RunningServer, client: httpx.Client, damaged: Damaged, folder: Path) -> bool:
    """Whether `alterbute mask` takes a file."""
    sound, _, data = damaged
    (folder / "photo.jpg").write_bytes(data)
    mark(*sound.pixels.shape[:2]).save(folder / "mask.png")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main(["mask", str(folder / "photo.jpg"), "--mask", str(folder / "mask.png")])
    assert code in (0, 2)
    return code == 0


def open_path(server: RunningServer, client: httpx.Client, damaged: Damaged, folder: Path) -> bool:
    """Whether `load_photo` takes a path."""
    (folder / "photo.jpg").write_bytes(damaged[2])
    return is_taken(lambda: load_photo(folder / "photo.jpg"))


def open_with_pillow(server: RunningServer, client: httpx.Client, damaged: Damaged, folder: Path) -> bool:
    """Whether `load_photo` takes an image of `Image.open`."""
    try:
        image = Image.open(io.BytesIO(damaged[2]))
    except Exception:  # Pillow refuses it by itself
        return False
    return is_taken(lambda: load_photo(image))


def is_taken(load: Callable[[], Photo]) -> bool:
    """Whether a picture is loaded without an error of this package."""
    try:
        load()
    except InputError:
        return False
    return True


def mark(height: int, width: int) -> Image.Image:
    """A mask with a rectangle in its middle."""
    levels = np.zeros((height, width), np.uint8)
    levels[height // 4 : height // 2, width // 4 : width // 2] = 255
    return Image.fromarray(levels)


def check(server: RunningServer, folder: Path, count: int) -> collections.Counter[str]:
    """Give each file to every interface; returns how many each of them took, all with the sound pixels."""
    taken: collections.Counter[str] = collections.Counter()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for damaged in list_damaged(count):
            sound, what, data = damaged
            is_whole = is_taken(lambda: load_photo(data)) and np.array_equal(load_photo(data).pixels, sound.pixels)  # noqa: B023
            for give in (open_path, open_with_pillow, run_command, post):
                if give(server, client, damaged, folder):
                    taken[give.__name__] += 1
                    assert is_whole, (give.__name__, sound.name, what)
    return taken


def test_no_interface_takes_a_damaged_jpeg(server: RunningServer, tmp_path: Path) -> None:
    check(server, tmp_path, 40)


@pytest.mark.slow
def test_a_campaign_of_damaged_jpegs_through_every_interface(server: RunningServer, tmp_path: Path) -> None:
    print(f"of 1000 damaged files, taken with the sound pixels by {dict(check(server, tmp_path, 1000))}")
