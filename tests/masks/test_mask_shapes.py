"""Boxes and polygons become masks whose levels are how much of each pixel is covered."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images.masks.shapes import (
    MAX_POINTS,
    box_mask,
    draw_circle,
    parse_box,
    parse_polygon,
    polygon_mask,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

SIZE = (48, 40)
COORDINATES = st.floats(-20, 70, allow_nan=False)
STARS = st.lists(st.floats(0.2, 18), min_size=3, max_size=12)
TRIANGLE = [(10.0, 5.0), (40.0, 5.0), (25.0, 35.0)]


def star(radii: list[float]) -> NDArray[np.float64]:
    """A polygon around the middle of the photo that does not cross itself: one corner at each of equal angles."""
    angles = np.arange(len(radii)) * (2 * math.pi / len(radii))
    return np.stack((24 + radii * np.cos(angles), 20 + radii * np.sin(angles)), axis=1)


def exact_area(corners: NDArray[np.float64]) -> float:
    """The shoelace formula."""
    x, y = corners.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def length(corners: NDArray[np.float64]) -> float:
    return float(np.hypot(*(corners - np.roll(corners, -1, axis=0)).T).sum())


@given(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES))
@settings(max_examples=100, deadline=None)
def test_a_box_marks_exactly_its_rounded_pixels_inside_the_photo(box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = (math.floor(value + 0.5) for value in box)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    expected = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    if expected.any():
        assert np.array_equal(box_mask(SIZE, box), np.where(expected, 255, 0))
    else:
        with pytest.raises(InputError, match="box") as refused:
            box_mask(SIZE, box)
        assert refused.value.code in ("box_empty", "box_outside")


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, math.nan, 5),
        (0, 0, math.inf, 5),
        (-math.inf, 0, 5, 5),
        (0, 0, 5),
        (0, 0, 5, 5, 5),
        (),
        (0, 0, 10**400, 10**400, 1),
    ],
)
def test_a_box_that_is_not_four_finite_numbers_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(InputError) as refused:
        box_mask(SIZE, box)
    assert (refused.value.param, refused.value.code) == ("box", "box_bad_number")


@given(STARS)
@settings(max_examples=150, deadline=None)
def test_a_polygon_covers_its_exact_area(radii: list[float]) -> None:
    corners = star(radii)
    covered = polygon_mask(SIZE, [corners]).sum() / 255
    # Half a sample line where an edge starts or ends, and half a level in each pixel that the outline may pass.
    tolerance = 0.002 * (2 * length(corners) + 4 * len(radii)) + sum(radii) / 32
    assert abs(covered - exact_area(corners)) <= tolerance


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=3))
@settings(max_examples=150, deadline=None)
def test_pixels_wholly_inside_a_triangle_are_255_and_pixels_wholly_outside_are_0(
    triangle: list[tuple[float, float]],
) -> None:
    corners = np.array(triangle)
    (ax, ay), (bx, by) = corners[1] - corners[0], corners[2] - corners[0]
    orientation = np.sign(ax * by - ay * bx)
    assume(exact_area(corners) > 1)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    is_inside, is_outside = np.ones(rows.shape, bool), np.zeros(rows.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        distances = np.stack(
            [(x1 - x0) * (rows + down - y0) - (y1 - y0) * (columns + right - x0) for down in (0, 1) for right in (0, 1)]
        )
        is_inside &= (distances * orientation >= 1e-6).all(axis=0)
        is_outside |= (distances * orientation <= -1e-6).all(axis=0)
    try:
        mask = polygon_mask(SIZE, [triangle])
    except InputError as fault:
        assert fault.code in ("polygon_outside", "polygon_empty")
        assert not is_inside.any()
        return
    assert (mask[is_inside] == 255).all()
    assert (mask[is_outside] == 0).all()


@given(st.integers(-20, 47), st.integers(-20, 39), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_a_polygon_on_whole_pixels_is_the_box(x0: int, y0: int, width: int, height: int) -> None:
    x1, y1 = max(x0, 0) + width, max(y0, 0) + height
    box = (x0, y0, x1, y1)
    polygon = [(x0, y0), (x0, y1), (x1, y1), (x1, y0)]
    assert np.array_equal(polygon_mask(SIZE, [polygon]), box_mask(SIZE, box))


@given(STARS, st.tuples(st.integers(-20, 20), st.integers(-20, 20)))
@settings(max_examples=50, deadline=None)
def test_a_polygon_that_reaches_beyond_the_photo_is_a_cut_of_the_whole(
    radii: list[float], shift: tuple[int, int]
) -> None:
    """The same polygon in a photo with 24 more pixels around it."""
    corners = star(radii) + shift
    whole = polygon_mask((SIZE[0] + 48, SIZE[1] + 48), [corners + 24])
    cut = whole[24:-24, 24:-24]
    if cut.any():
        assert np.array_equal(polygon_mask(SIZE, [corners]), cut)
    else:
        with pytest.raises(InputError):
            polygon_mask(SIZE, [corners])


def test_a_pixel_has_the_covered_part_as_its_level() -> None:
    mask = polygon_mask(SIZE, [[(2.5, 3.0), (5.25, 3.0), (5.25, 4.5), (2.5, 4.5)]])
    assert mask[3, 1:7].tolist() == [0, 128, 255, 255, 64, 0]
    assert mask[4, 1:7].tolist() == [0, 64, 128, 128, 32, 0]
    assert np.count_nonzero(mask) == 8


def test_polygons_are_united_without_a_seam_and_without_counting_twice() -> None:
    left = [(2.5, 2.0), (10.5, 2.0), (10.5, 9.0), (2.5, 9.0)]
    right = [(10.5, 2.0), (20.0, 2.0), (20.0, 9.0), (10.5, 9.0)]
    both = [(2.5, 2.0), (20.0, 2.0), (20.0, 9.0), (2.5, 9.0)]
    whole = polygon_mask(SIZE, [both])
    assert np.array_equal(polygon_mask(SIZE, [left, right]), whole)
    assert np.array_equal(polygon_mask(SIZE, [left, both, right[::-1], left]), whole)


@given(st.lists(STARS, min_size=2, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_union_lies_between_its_largest_part_and_the_sum(stars: list[list[float]]) -> None:
    polygons = [star(radii) + np.array((3 * index, index)) for index, radii in enumerate(stars)]
    each = np.array([polygon_mask(SIZE, [polygon]) for polygon in polygons], np.int64)
    united = polygon_mask(SIZE, polygons).astype(np.int64)
    assert (united >= each.max(axis=0)).all()
    assert (united <= np.minimum(each.sum(axis=0) + len(stars), 255)).all()


def test_a_polygon_that_crosses_itself_is_filled_by_the_even_odd_rule() -> None:
    angles = np.arange(5) * (4 * math.pi / 5)
    pentagram = np.stack((24 + 18 * np.cos(angles), 20 + 18 * np.sin(angles)), axis=1)
    mask = polygon_mask(SIZE, [pentagram])
    assert mask[20, 24] == 0
    assert mask[20, 38] == 255


def test_a_circle_has_the_area_of_a_circle() -> None:
    mask = polygon_mask(SIZE, [draw_circle((24.0, 20.0), 15.0)])
    assert mask.sum() / 255 == pytest.approx(math.pi * 15**2, rel=0.003)


BAD_POLYGONS: dict[str, tuple[object, str]] = {
    "none": ([], "polygon_missing"),
    "NaN": ([[*TRIANGLE, (math.nan, 1)]], "polygon_bad_number"),
    "infinite": ([[*TRIANGLE, (1, -math.inf)]], "polygon_bad_number"),
    "far away": ([[*TRIANGLE, (1e7, 1)]], "polygon_bad_number"),
    "a huge integer": ([[*TRIANGLE, (10**400, 1)]], "polygon_bad_number"),
    "text": ([["ab", "cd", "ef"]], "polygon_bad_number"),
    "a number": ([5], "polygon_bad_number"),
    "one polygon that is not in a list": (TRIANGLE, "polygon_few_points"),
    "a corner of three numbers": ([[(1, 2, 3)] * 3], "polygon_bad_number"),
    "corners of two and three numbers": ([[(1, 2), (3, 4), (1, 2, 3)]], "polygon_bad_number"),
    "no corner": ([[]], "polygon_few_points"),
    "two corners": ([TRIANGLE[:2]], "polygon_few_points"),
    "a second polygon of two corners": ([TRIANGLE, TRIANGLE[:2]], "polygon_few_points"),
    "too many corners": ([np.zeros((MAX_POINTS + 1, 2))], "polygon_many_points"),
    "too many corners together": ([np.zeros((MAX_POINTS // 2 + 1, 2))] * 2, "polygon_many_points"),
    "one point": ([[(3, 3)] * 4], "polygon_no_area"),
    "a line": ([[(0, 0), (0.1, 0.1), (0.3, 0.3), (7, 7)]], "polygon_no_area"),
    "a path and back": ([[(0, 0), (9, 0), (9, 9), (9, 0)]], "polygon_empty"),
    "a sliver between two sample lines": ([[(0, 5), (9, 5), (9, 5.01)]], "polygon_empty"),
    "left of the photo": ([[(-9, 0), (0, 0), (0, 9)]], "polygon_outside"),
    "below the photo": ([[(0, 40), (9, 40), (9, 50)]], "polygon_outside"),
    "beyond the corner": ([[(40, -9), (60, -9), (60, 11.5)]], "polygon_empty"),
    "an endless zigzag": (
        [np.stack((np.linspace(0, 48, 60_000), np.tile([0.0, 40.0], 30_000)), axis=1)],
        "polygon_outline_too_long",
    ),
}


@pytest.mark.parametrize("name", BAD_POLYGONS)
def test_an_unusable_polygon_is_refused_in_one_line(name: str) -> None:
    polygons, code = BAD_POLYGONS[name]
    with pytest.raises(InputError) as refused:
        polygon_mask(SIZE, polygons)  # type: ignore[arg-type]
    assert (refused.value.param, refused.value.code) == ("polygon", code)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_polygon_in_a_24_megapixel_photo_needs_little_memory() -> None:
    angles = np.linspace(0, 2 * math.pi, 20_000, endpoint=False)
    wave = 1 + 0.05 * np.sin(500 * angles)
    corners = np.stack((3000 + 2700 * wave * np.cos(angles), 2000 + 1900 * wave * np.sin(angles)), axis=1)
    tracemalloc.start()
    try:
        mask = polygon_mask((6000, 4000), [corners])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert mask.sum(dtype=np.int64) / 255 == pytest.approx(exact_area(corners), rel=1e-4)


@given(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES))
@settings(max_examples=50, deadline=None)
def test_a_written_box_is_read_back(box: tuple[float, float, float, float]) -> None:
    assert parse_box(",".join(map(repr, box))) == box
    assert parse_box(" , ".join(map(repr, box))) == box


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=9))
@settings(max_examples=50, deadline=None)
def test_a_written_polygon_is_read_back(corners: list[tuple[float, float]]) -> None:
    assert parse_polygon("  ".join(f"{x!r},{y!r}" for x, y in corners)) == corners


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3",
        "1,2,3,4,5",
        "1,2,3,",
        "a,b,c,d",
        "1,2,3,nan",
        "1,2,3,inf",
        "1,2,3,1e999",
        "1_0,2,3,4",
        "1 2 3 4",
        "1,2,3,٤",
    ],
)
def test_a_text_that_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_box(text)
    assert (refused.value.param, refused.value.code) == ("box", "box_bad_number")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "polygon_few_points"),
        ("1,2 3,4", "polygon_few_points"),
        ("1,2 3,4 5", "polygon_bad_number"),
        ("1,2 3,4 5,6,7", "polygon_bad_number"),
        ("1,2 3,4 5,nan", "polygon_bad_number"),
        ("1,2 3,4 ,", "polygon_bad_number"),
        ("1, 2 3, 4 5, 6", "polygon_bad_number"),
        ("1,2 3,4 " + "9" * 5000, "polygon_bad_number"),
        ("1,2 " * (MAX_POINTS + 5), "polygon_many_points"),
    ],
)
def test_a_text_that_is_no_polygon_is_refused_in_one_line(text: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_polygon(text)
    assert (refused.value.param, refused.value.code) == ("polygon", code)
    assert len(str(refused.value)) < 300
