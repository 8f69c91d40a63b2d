"""Pixels outside the mask that the user gave: none changes, for every kind of mask, mode and size, unless a rim is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import default_bundle_path
from alterbute.editor import Editor
from alterbute.errors import InputError
from alterbute.images.photo import Bytes
from numpy.typing import NDArray
from PIL import Image

from tests.support.pictures import to_bytes


@pytest.fixture(scope="module")
def demo_editor() -> Iterator[Editor]:
    with Editor.open(default_bundle_path(), backend="onnxruntime") as opened:
        yield opened


class Pair:
    """A random photo and mask, and the coverage of each pixel by the mask, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        height, width = (int(side) for side in self.random.integers(32, 400, 2))
        rows, columns = np.mgrid[:height, :width]
        self.coverage = np.zeros((height, width), np.uint8)
        for _ in range(int(self.random.integers(1, 4))):
            self.coverage = np.maximum(self.coverage, self._draw(rows, columns))
        mode = str(self.random.choice(["RGB", "RGBA", "L", "array"]))
        pixels = self.random.integers(0, 256, (height, width, 3), np.uint8)
        self.photo: Any = pixels
        if mode != "array":
            self.photo = Image.fromarray(pixels).convert(mode)
        self.pixels = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB")) if mode == "L" else pixels
        if mode == "RGBA":
            self.photo.putalpha(Image.fromarray(self.random.integers(0, 256, (height, width), np.uint8)))
        self.options: dict[str, Any] = {"mask_kind": str(self.random.choice(["precise", "precise", "soft", "box"]))}
        if self.random.random() < 0.3:
            self.options["dilate"] = int(self.random.choice([1, 3, 9, 31]))
        self.options["detail"] = str(self.random.choice(["auto", "photo", "model"]))
        self.mask = self._write()

    def _draw(self, rows: Any, columns: Any) -> Bytes:
        height, width = rows.shape
        y, x = self.random.uniform(0, height), self.random.uniform(0, width)
        size = self.random.uniform(0.02, 0.4) * min(height, width)
        distance = np.hypot(rows - y, columns - x)
        shapes = [
            distance < size + 1,
            (abs(rows - y) < size) & (abs(columns - x) < size / 3 + 1),
            (abs(rows - y) < 1) & (columns > x / 2),
            (distance < size + 1) & (distance > size / 2),
        ]
        kind = int(self.random.integers(0, 6))
        if kind < 4:
            return np.where(shapes[kind], np.uint8(255), np.uint8(0))
        soft: NDArray[np.float64] = np.clip(255 * (size + 2 - distance) / (2 if kind == 4 else size + 2), 0, 255)
        return soft.astype(np.uint8)

    def _write(self) -> Any:
        """The mask in one of the forms in which people have masks."""
        form = int(self.random.integers(0, 7))
        hard = np.where(self.coverage >= 128, np.uint8(255), np.uint8(0))
        color = self.random.integers(100, 256, 3)
        if form == 0:
            return self.coverage
        if form == 1:
            self.options["mask_polarity"] = "black"
            return to_bytes(255 - self.coverage)
        if form == 2:
            self.options["mask_polarity"] = "opaque"
            return np.dstack([np.broadcast_to(color.astype(np.uint8), (*hard.shape, 3)), self.coverage])
        if form == 3:
            self.coverage = hard
            return (hard // 255 * int(self.random.integers(1, 100))).astype(np.uint8)
        if form == 4:
            self.coverage = hard
            return to_bytes((hard[:, :, None] / 255 * color).astype(np.uint8))
        if form == 5:
            self.coverage = hard
            return hard > 0
        self.coverage = hard
        return hard.astype(np.float32) / 255

    @property
    def may_change(self) -> Bytes:
        """Above 0 where the mask that was given, or its box, is."""
        if self.options["mask_kind"] != "box":
            return self.coverage
        rows, columns = np.nonzero(self.coverage >= 128)
        box = np.zeros_like(self.coverage)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 255
        return box


def check_pairs(editor: Editor, seeds: range) -> tuple[int, int]:
    """Edit random pairs; returns how many were edited and how many were refused."""
    refused = 0
    for seed in seeds:
        pair = Pair(seed)
        try:
            result = editor.edit(pair.photo, pair.mask, "color: red", seed=seed, steps=1, **pair.options)
        except InputError as fault:
            refused += 1
            assert fault.code in ("mask_empty", "mask_full", "mask_labels", "mask_colors"), (seed, fault)
            continue
        outside = pair.may_change == 0
        edited = np.asarray(result.image)[:, :, :3]
        assert np.array_equal(edited[outside], pair.pixels[outside]), seed
        assert not result.alpha[outside].any(), seed
        assert result.alpha.any(), seed
    return len(seeds) - refused, refused


def test_no_pixel_outside_the_given_mask_changes(demo_editor: Editor) -> None:
    edited, refused = check_pairs(demo_editor, range(60))
    assert edited > 5 * refused


@pytest.mark.slow
def test_no_pixel_outside_the_given_mask_changes_in_3000_pairs(demo_editor: Editor) -> None:
    edited, refused = check_pairs(demo_editor, range(10_000, 13_000))
    print(f"{edited} edited, {refused} refused")
    assert edited > 2700


@pytest.mark.parametrize("rim", [1, 5, 12])
def test_a_rim_changes_that_many_pixels_around_and_no_more(demo_editor: Editor, rim: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (200, 240, 3), np.uint8)
    mask, near = np.zeros((200, 240), np.uint8), np.zeros((200, 240), np.uint8)
    mask[80:120, 90:150] = 255
    near[80 - rim : 120 + rim, 90 - rim : 150 + rim] = 255
    result = demo_editor.edit(photo, mask, "color: red", seed=1, steps=1, rim=rim)
    changed = (np.asarray(result.image) != photo).any(-1)
    assert not changed[near == 0].any()
    assert changed[(near > 0) & (mask == 0)].any()


def test_dust_changes_no_byte_of_the_edit(demo_editor: Editor) -> None:
    random = np.random.default_rng(1)
    photo = random.integers(0, 256, (900, 1200, 3), np.uint8)
    rows, columns = np.mgrid[:900, :1200]
    mask = np.where(np.hypot(rows - 400, columns - 500) < 70, np.uint8(255), np.uint8(0))
    dusty = mask.copy()
    for _ in range(50):
        y, x, side = (int(random.integers(0, limit)) for limit in (898, 1198, 3))
        dusty[y : y + side + 1, x : x + side + 1] = 255
    near = np.hypot(rows - 400, columns - 500) < 80
    dusty[near] = mask[near]
    clean, with_dust = (demo_editor.edit(photo, given, "color: green", seed=3, steps=2) for given in (mask, dusty))
    assert np.array_equal(np.asarray(clean.image), np.asarray(with_dust.image))
    report = demo_editor.prepare(photo, dusty).report
    assert report is not None and report.specks > 20 and "dropped" in report.describe()


@pytest.mark.parametrize("kind", ["precise", "box", "soft"])
def test_each_of_two_distant_objects_is_edited_as_alone(demo_editor: Editor, kind: Any) -> None:
    random = np.random.default_rng(2)
    photo = random.integers(0, 256, (800, 1400, 3), np.uint8)
    rows, columns = np.mgrid[:800, :1400]
    near, far = (np.hypot(rows - y, columns - x) < 80 for y, x in ((150, 160), (620, 1200)))
    masks = [np.where(where, np.uint8(255), np.uint8(0)) for where in (near, far, near | far)]
    subject = demo_editor.prepare(photo, masks[2], mask_kind=kind)
    assert [window.box.width for window in subject.windows] == [223, 223]
    alone = [
        np.asarray(demo_editor.edit(photo, mask, "color: red", seed=5, steps=2, mask_kind=kind).image)
        for mask in masks[:2]
    ]
    steps: list[tuple[int, int]] = []
    both = subject.edit("color: red", seed=5, steps=2, progress=lambda p: steps.append((p.step, p.steps)))
    expected = np.where((alone[0] != photo).any(-1)[:, :, None], alone[0], alone[1])
    assert np.array_equal(np.asarray(both.image), expected)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_nothing_but_a_wire_is_painted(demo_editor: Editor) -> None:
    photo = np.random.default_rng(3).integers(0, 256, (600, 800, 3), np.uint8)
    mask = np.zeros((600, 800), np.uint8)
    mask[300:302, 20:780] = 255
    result = demo_editor.edit(photo, mask, "color: red", seed=1, steps=2)
    assert np.array_equal(result.alpha, mask)
    assert not (np.asarray(result.image) != photo).any(-1)[mask == 0].any()
