"""Files of many encoders are read rightly or refused by name; `benchmarks.picture_files.campaign` makes hundreds of such files."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alterbute.images import Photo, encode_photo

from benchmarks.picture_files.campaign import recipes
from benchmarks.picture_files.check import judge
from benchmarks.picture_files.expectations import Case, Expected
from benchmarks.picture_files.pack import TELLING, pack, unpack
from benchmarks.picture_files.source import EXACT8, EXACT16, RGB8, RGB16, from_srgb, to_srgb, turn

ZIP = Path(__file__).parent / "picture_files.zip"
CASES = list(unpack(ZIP))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_is_read_rightly_or_refused_by_name(case: Case, tmp_path: Path) -> None:
    if case.name.endswith(".heic") and importlib.util.find_spec("pi_heif") is None:
        pytest.skip("HEIC needs pi-heif")
    path = tmp_path / case.name
    path.write_bytes(case.data)
    verdict = judge(path, case.expected)
    assert verdict.is_good, verdict


def test_the_pack_holds_the_telling_files_and_every_recipe_has_a_name_of_its_own() -> None:
    assert {case.name for case in CASES} == set(TELLING)
    names = [recipe.name for recipe in recipes()]
    assert len(names) == len(set(names)) >= 150
    assert set(TELLING) <= set(names)


def test_a_pack_gives_back_what_was_packed(tmp_path: Path) -> None:
    near = Expected(pixels=np.minimum(RGB8, 254) + np.uint8(1), tolerance=2)
    cases = [
        Case(name="a", encoder="e", kind="k", data=b"1", expected=near),
        Case(name="b", encoder="e", kind="k", data=b"2", expected=EXACT8),
        Case(name="c", encoder="e", kind="k", data=b"", expected=Expected(word="x", mask=RGB8[:, :, 0] > 9)),
    ]
    pack(cases, tmp_path / "exact.zip")
    a, b, c = sorted(unpack(tmp_path / "exact.zip"), key=lambda case: case.name)
    assert np.array_equal(a.expected.pixels, near.pixels)  # type: ignore[arg-type]
    assert np.array_equal(b.expected.pixels, RGB8)  # type: ignore[arg-type]
    assert (c.data, c.expected.word, c.expected.may_be_read) == (b"", "x", True)
    pack(cases, tmp_path / "small.zip", slack=2)
    a, b, _ = sorted(unpack(tmp_path / "small.zip"), key=lambda case: case.name)
    assert np.array_equal(a.expected.pixels, RGB8)  # type: ignore[arg-type]
    assert (a.expected.tolerance, b.expected.tolerance) == (3, 0)


P3 = from_srgb("p3")
TRANSPARENT = Photo(pixels=RGB8.copy(), alpha=np.full(RGB8.shape[:2], 9, np.uint8))


@pytest.mark.parametrize(
    ("photo", "expected", "outcome"),
    [
        (Photo(pixels=RGB8.copy()), EXACT8, "right"),
        (Photo(pixels=RGB8.copy()), replace(EXACT8, word="PSD"), "right"),
        (Photo(pixels=RGB8.copy()), Expected(word="PSD"), "silently other"),
        (Photo(pixels=RGB8.copy()), EXACT16, "shallower"),
        (Photo(pixels=RGB8 ^ np.uint8(1)), EXACT8, "silently other"),
        (Photo(pixels=turn(RGB8, 3)), EXACT8, "silently other"),
        (Photo(pixels=turn(RGB8, 6)), EXACT8, "silently other"),
        (TRANSPARENT, EXACT8, "silently other"),
        (Photo(pixels=P3), Expected(pixels=P3, srgb=to_srgb(P3, "p3")), "silently other"),
    ],
)
def test_the_check_sees_a_file_that_is_silently_other(
    photo: Photo, expected: Expected, outcome: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_photo(photo))
    assert judge(path, expected).outcome == outcome


@pytest.mark.parametrize(
    ("data", "word", "outcome"),
    [(b"", "empty", "refused by name"), (b"", "PSD", "badly refused"), (b"", "", "not read")],
)
def test_the_check_reads_the_message_of_a_refusal(data: bytes, word: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert judge(tmp_path / "a.png", Expected(pixels=RGB16, word=word)).outcome == outcome
