"""An AVIF or HEIC whose boxes state another size than its coded pictures have is refused: its decoder would scale the picture without an error."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import load_photo
from alterbute.images.files.heif.av1_header import changes_size, read_sequence
from alterbute.images.files.heif.item_boxes import find_box, read_contents, read_items
from PIL import Image

from tests.support.avif_grid import grid_of
from tests.support.jpeg_files import picture
from tests.support.pictures import noise, to_bytes

HEIC_FILES = Path(__file__).parents[1] / "images" / "files"
TILES = [to_bytes(noise(64, 96, seed=seed), "AVIF", subsampling="4:4:4", speed=10) for seed in range(6)]
SIZES = ((64, 64), (128, 80), (127, 81), (128, 81), (16384, 16384), (32, 32), (80, 128), (256, 160))


def sizes_changed(data: bytes, width: int, height: int) -> Iterator[bytes]:
    """The file with this size in all of its boxes of the size, and in each one of them."""
    places = [at for at in range(len(data)) if data.startswith(b"ispe", at)]
    for chosen in (places, *([place] for place in places)):
        bent = bytearray(data)
        for at in chosen:
            bent[at + 8 : at + 16] = width.to_bytes(4) + height.to_bytes(4)
        if bent != data:
            yield bytes(bent)


@pytest.mark.parametrize("channels", [3, 4])
def test_an_avif_of_another_size_than_its_boxes_is_refused(channels: int) -> None:
    data = to_bytes(noise(80, 128, channels), "AVIF", speed=10)
    assert load_photo(data).pixels.shape == (80, 128, 3)
    for width, height in SIZES:
        for bent in sizes_changed(data, width, height):
            with pytest.raises(InputError, match=r"two sizes|pixels"):
                load_photo(bent)


def test_a_large_avif_that_states_a_small_size_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import AvifImagePlugin

    data = to_bytes(Image.new("RGB", (6000, 4000)), "AVIF", speed=10)
    monkeypatch.setattr(AvifImagePlugin, "AvifImageFile", None)
    for bent in sizes_changed(data, 64, 64):
        with pytest.raises(InputError, match="two sizes"):
            load_photo(bent)


def test_every_sound_avif_is_taken() -> None:
    for index, (width, height) in enumerate(itertools.product((32, 33, 63, 65, 100), (32, 47, 64))):
        for channels, subsampling in ((1, "4:0:0"), (3, "4:2:0"), (3, "4:2:2"), (4, "4:4:4")):
            pixels = noise(height, width, channels, index)
            data = to_bytes(pixels[:, :, 0] if channels == 1 else pixels, "AVIF", subsampling=subsampling, speed=10)
            assert load_photo(data).pixels.shape == (height, width, 3)


def test_a_grid_is_taken_with_its_tiles_and_refused_with_other_sizes() -> None:
    parts = [load_photo(tile).pixels for tile in TILES]
    whole = np.vstack([np.hstack(parts[:3]), np.hstack(parts[3:])])
    for width, height in ((288, 128), (280, 120), (194, 66)):
        assert np.array_equal(load_photo(grid_of(TILES, 3, (width, height))).pixels, whole[:height, :width])
    for width, height in ((289, 128), (288, 129), (96, 64), (1000, 1000)):
        with pytest.raises(InputError, match="damaged"):
            load_photo(grid_of(TILES, 3, (width, height)))
    for stated, tile_stated in (((100, 100), None), ((576, 256), None), (None, (64, 64)), (None, (192, 128))):
        with pytest.raises(InputError, match="two sizes"):
            load_photo(grid_of(TILES, 3, (288, 128), stated=stated, tile_stated=tile_stated))
    # An encoder stores equal tiles once.
    assert load_photo(grid_of(TILES[:1] * 6, 3, (288, 128))).pixels.shape == (128, 288, 3)


def test_a_frame_of_another_size_than_its_sequence_is_refused() -> None:
    frames = [Image.fromarray(picture(64, 96, seed, 8)) for seed in range(2)]
    moving = to_bytes(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)
    still = moving.replace(b"avis", b"avif").replace(b"msf1", b"mif1").replace(b"moov", b"free")
    assert load_photo(still).pixels.shape == (64, 96, 3)
    meta = find_box(still, b"meta")
    assert meta is not None
    item = bytes(read_contents(still, meta)[read_items(meta).primary])
    sequence_at = item.index(b"\x0a") + 2
    sequence = read_sequence(item[sequence_at:])
    assert (sequence.width, sequence.height, sequence.is_reduced) == (96, 64, False)
    frame_at = item.index(b"\x32", sequence_at + item[sequence_at - 1])
    while item[frame_at + 1] & 128:
        frame_at += 1
    first = item[frame_at + 2]
    # Shown key frame: four bits; probabilities, screen contents (and whole motion), own size.
    own_size = 1 << (7 - 6 - (first >> 2 & 1))
    assert not changes_size(item[frame_at + 2 :], sequence)
    bent = item[: frame_at + 2] + bytes([first | own_size]) + item[frame_at + 3 :]
    assert changes_size(bent[frame_at + 2 :], sequence)
    with pytest.raises(InputError, match="frame of another size"):
        load_photo(still.replace(item, bent))


def test_an_avif_with_changed_bytes_in_its_boxes_is_refused_or_has_its_own_size() -> None:
    generator = random.Random(3)
    for data in (to_bytes(noise(64, 96, 4), "AVIF", speed=10), grid_of(TILES, 3, (280, 120))):
        shape, end = load_photo(data).pixels.shape, data.index(b"mdat") + 40
        for _ in range(300):
            bent = bytearray(data)
            bent[generator.randrange(end)] = generator.choice((0, 1, 255, generator.randrange(256)))
            try:
                assert load_photo(bytes(bent)).pixels.shape == shape
            except InputError:
                continue


def test_a_cut_avif_is_refused() -> None:
    data = to_bytes(picture(80, 128, 0, 8), "AVIF", speed=10)
    for size in np.linspace(12, len(data) - 1, 120).astype(int).tolist():
        with pytest.raises(InputError):
            load_photo(data[:size])


@pytest.mark.parametrize("name", ["orientation_1", "orientation_6", "alpha"])
def test_a_heic_of_another_size_than_its_boxes_is_refused(name: str) -> None:
    pytest.importorskip("pi_heif")
    data = (HEIC_FILES / f"{name}.heic").read_bytes()
    assert load_photo(data).pixels.any()
    for width, height in SIZES:
        for bent in sizes_changed(data, width, height):
            with pytest.raises(InputError):
                load_photo(bent)
