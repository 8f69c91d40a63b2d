"""Connected pieces, dust, and the windows of distant objects."""

from __future__ import annotations

import numpy as np
import pytest
from alterbute.images import Box, Photo, count_windows, load_region, split_region
from alterbute.images.masks import pieces as pieces_module
from alterbute.images.masks.pieces import find_dust, find_pieces
from alterbute.images.masks.split import MAX_WINDOWS, group_objects
from alterbute.images.photo import Bytes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray


def flood(marked: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The 8-connected pieces of a mask by flooding, the largest first."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(marked), strict=True)}
    found = []
    while left:
        piece, border = set(), [left.pop()]
        while border:
            y, x = border.pop()
            piece.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            border += near
        found.append(piece)
    return sorted(found, key=lambda piece: (-len(piece), min(piece)))


@given(st.integers(0, 10_000), st.integers(1, 24), st.integers(1, 24), st.floats(0.05, 0.95))
def test_pieces_are_those_of_a_flood(seed: int, height: int, width: int, share: float) -> None:
    marked = np.random.default_rng(seed).random((height, width)) < share
    pieces = find_pieces(marked)
    assert pieces is not None
    expected = flood(marked)
    assert pieces.areas.tolist() == [len(piece) for piece in expected]
    for index, piece in enumerate(expected):
        painted = pieces.paint(np.arange(len(expected)) == index)
        assert {(int(y), int(x)) for y, x in zip(*np.nonzero(painted), strict=True)} == piece
        rows, columns = [y for y, _ in piece], [x for _, x in piece]
        box = Box(top=min(rows), left=min(columns), bottom=max(rows) + 1, right=max(columns) + 1)
        assert pieces.boxes()[index] == box


def test_a_spiral_is_one_piece() -> None:
    marked = np.zeros((401, 401), np.bool_)
    for ring in range(0, 200, 4):
        marked[ring, ring : 401 - ring] = marked[400 - ring, ring : 401 - ring] = True
        marked[ring : 401 - ring, 400 - ring] = True
        marked[ring + 4 : 401 - ring, ring] = True
        marked[ring + 4, ring : ring + 5] = True
    pieces = find_pieces(marked)
    assert pieces is not None and len(pieces.areas) == 1


def test_noise_of_too_many_runs_is_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "MAX_RUNS", 50)
    mask = np.where(np.random.default_rng(0).random((64, 80)) < 0.5, np.uint8(255), np.uint8(0))
    assert find_pieces(mask) is None
    report = load_region(mask, Photo(pixels=np.zeros((64, 80, 3), np.uint8))).report
    assert report is not None and report.pieces is None and "many pieces" in report.describe()


def test_dust_is_small_beside_the_largest_piece() -> None:
    assert find_dust(np.array([64, 1])).tolist() == [False, True]
    assert find_dust(np.array([64, 2])).tolist() == [False, False]
    assert find_dust(np.array([15_000, 63, 64])).tolist() == [False, True, False]
    assert find_dust(np.array([200_000, 199, 200])).tolist() == [False, True, False]
    assert find_dust(np.array([], np.int64)).tolist() == []


def draw(height: int, width: int, *squares: tuple[int, int, int]) -> Bytes:
    mask = np.zeros((height, width), np.uint8)
    for top, left, side in squares:
        mask[top : top + side, left : left + side] = 255
    return mask


@pytest.mark.parametrize(
    ("squares", "windows"),
    [
        ([(20, 20, 60), (500, 700, 60)], 2),
        ([(20, 20, 60), (20, 100, 60)], 1),  # the halves of one object behind a pole
        ([(20, 20, 60), (20, 700, 60), (500, 20, 60), (500, 700, 60)], 4),
        ([(20, 20, 300), (20, 330, 20), (400, 20, 40)], 1),  # small pieces beside a large one
        ([(10, 10, 8), (40, 40, 8)], 1),  # both fit the model's window without being shrunk
    ],
)
def test_distant_objects_get_windows_of_their_own(squares: list[tuple[int, int, int]], windows: int) -> None:
    mask = draw(600, 800, *squares)
    photo = Photo(pixels=np.zeros((600, 800, 3), np.uint8))
    for kind in ("precise", "box", "soft"):
        parts = split_region(load_region(mask, photo, kind=kind), 1.4, (64,))
        assert len(parts) == windows == count_windows(load_region(mask, photo, kind=kind), 1.4, (64,))
        together = np.maximum.reduce([part.object for part in parts])
        assert np.array_equal(together, mask)
        assert sum(int((part.object > 0).sum()) for part in parts) == int((mask > 0).sum())


def test_an_object_behind_a_pole_is_one_object() -> None:
    mask, pole = draw(600, 800, (20, 20, 400)), np.zeros((600, 800), np.uint8)
    pole[:, 120:320] = 255
    region = load_region(mask, Photo(pixels=np.zeros((600, 800, 3), np.uint8)), protect=pole)
    assert len(split_region(region, 1.4, (64,))) == 1


def test_a_part_that_is_wholly_protected_leaves_one_region() -> None:
    mask = draw(600, 800, (20, 20, 60), (500, 700, 60))
    region = load_region(mask, Photo(pixels=np.zeros((600, 800, 3), np.uint8)), protect=draw(600, 800, (490, 690, 80)))
    assert len(split_region(region, 1.4, (64,))) == 1


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 400)), min_size=1, max_size=30))
def test_groups_hold_every_piece_once_and_are_few(squares: list[tuple[int, int, int]]) -> None:
    boxes = [Box(top=top, left=left, bottom=top + side, right=left + side) for top, left, side in squares]
    groups = group_objects(boxes, 1.4, 64)
    assert sorted(piece for group in groups for piece in group) == list(range(len(boxes)))
    assert len(groups) <= MAX_WINDOWS
