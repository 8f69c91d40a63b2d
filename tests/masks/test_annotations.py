"""COCO and Labelme annotations become the masks that they describe; a malformed document is refused in one line."""

from __future__ import annotations

import base64
import copy
import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import alterbute.images.masks.annotations as module
import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images.masks.annotations import is_annotation, load_annotation, read_annotation
from alterbute.images.masks.shapes import box_mask, polygon_mask
from alterbute.images.photo import Bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.pictures import png_claiming, to_bytes

SIZE = (9, 6)
SQUARE = [[2, 1, 5, 1, 5, 4, 2, 4]]
SQUARE_MASK = box_mask(SIZE, (2, 1, 5, 4))
RUNS = {"size": [6, 9], "counts": [13, 3, 3, 3, 3, 3, 26]}
LEFT, RIGHT = [[0, 0, 3, 0, 3, 6, 0, 6]], [[5, 0, 9, 0, 9, 6, 5, 6]]
ONES = np.ones((3, 3), np.uint8)
PNG = to_bytes(ONES)
Json = dict[str, object]
Objects = tuple[object, ...]
DISC = np.where(np.hypot(np.arange(40)[:, None] - 20, np.arange(60) - 30) <= 15, np.uint8(255), np.uint8(0))
# What pycocotools 2.0 writes.
KNOWN_TEXTS: dict[str, Bytes] = {
    "=33000;": box_mask((7, 6), (2, 1, 5, 4)),
    "019000000000000000": np.diag(np.full(9, 255, np.uint8)),
    "Xl4Xl4": box_mask((100, 100), (50, 0, 100, 100)),
    "0`h9": np.full((100, 100), 255, np.uint8),
    "\\c01R1:I4L4M2N2N2O0O2O0O2O0000000O20N100000001N101N101N2N2N3L4L7FQa0": DISC,
}


def encode_runs(mask: Bytes) -> list[int]:
    """Run lengths of a mask, column by column, the first of pixels that are 0."""
    pixels = [int(mask[row, column] > 0) for column in range(mask.shape[1]) for row in range(mask.shape[0])]
    runs = [(value, len(list(group))) for value, group in groupby(pixels)]
    return ([0] if runs[0][0] else []) + [length for _, length in runs]


def encode_text(counts: list[int]) -> str:
    """COCO's compressed text, one number after the other."""
    text = ""
    for index, count in enumerate(counts):
        number, is_last = count - counts[index - 2] if index > 2 else count, False
        while not is_last:
            low, number = number & 31, number >> 5
            is_last = number == (-1 if low & 16 else 0)
            text += chr(48 + low + (0 if is_last else 32))
    return text


def runs(counts: object, size: object = (6, 9)) -> Json:
    return {"size": size, "counts": counts}


def coco(*annotations: Json, **others: object) -> Json:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    images = [{"id": 7, "width": 9, "height": 6}]
    return {"images": images, "annotations": [*annotations], "categories": categories} | others


def coco_entry(number: int, segmentation: object, **others: object) -> Json:
    return {"id": number, "image_id": 7, "category_id": 1, "segmentation": segmentation, "iscrowd": 0} | others


def labelme(*shapes: Json, **others: object) -> Json:
    return {"version": "5.5.0", "shapes": [*shapes], "imageWidth": 9, "imageHeight": 6, "imageData": None} | others


def shape(kind: object, points: object, label: object = "cat", **others: object) -> Json:
    return {"label": label, "points": points, "shape_type": kind} | others


def picture(mask: Bytes = ONES, box: Sequence[object] = ([2, 1], [4, 3])) -> Json:
    return shape("mask", [*box], mask=base64.b64encode(to_bytes(mask)).decode())


@st.composite
def masks(draw: st.DrawFn) -> Bytes:
    """A mask of few or many runs."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    density = draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    mask = np.random.default_rng(draw(st.integers(0, 999))).random((height, width)) < density
    top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
    mask[top:, left:] = draw(st.booleans())
    return np.where(mask, np.uint8(255), np.uint8(0))


@given(masks())
@settings(max_examples=200, deadline=None)
def test_run_lengths_in_every_form_are_decoded_to_the_mask(mask: Bytes) -> None:
    height, width = mask.shape
    counts = encode_runs(mask)
    for form in (counts, encode_text(counts), encode_text(counts).encode()):
        runs = {"size": [height, width], "counts": form}
        for document in (runs, {"segmentation": runs, "iscrowd": 1}):
            assert np.array_equal(read_annotation(document, (width, height)), mask)


def test_run_lengths_of_millions_of_pixels_are_decoded() -> None:
    counts = [5_000_001, 4_000_000, 2_999_998, 1, 12_000_000]
    for form in (counts, encode_text(counts)):
        mask = read_annotation({"size": [4000, 6000], "counts": form}, (6000, 4000))
        flat = mask.T.ravel()
        assert flat[5_000_001] == flat[9_000_000] == flat[11_999_999] == 255
        assert np.count_nonzero(flat) == 4_000_001
    with pytest.raises(InputError, match="4,000,001 characters"):
        read_annotation(runs("1" * 4_000_001, [4000, 6000]), (6000, 4000))


@pytest.mark.parametrize("text", KNOWN_TEXTS)
def test_texts_of_pycocotools_are_decoded(text: str) -> None:
    mask = KNOWN_TEXTS[text]
    height, width = mask.shape
    assert np.array_equal(read_annotation(runs(text, [height, width]), (width, height)), mask)
    assert encode_text(encode_runs(mask)) == text


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (SQUARE, None),
        (SQUARE[0], None),
        (RUNS, None),
        (coco_entry(3, RUNS, iscrowd=1), "3"),
        ([coco_entry(3, SQUARE)], None),
        ([coco_entry(3, LEFT), coco_entry(4, SQUARE)], "4"),
        ([{"segmentation": LEFT}, {"segmentation": RUNS}], "1"),
        (coco(coco_entry(3, SQUARE)), None),
        (coco(coco_entry(3, SQUARE), images=None, categories=None), None),
        (coco(coco_entry(3, LEFT), coco_entry(4, RUNS, category_id=2)), "dog"),
        (coco(coco_entry(3, LEFT, image_id=8), coco_entry(4, SQUARE)), "4"),
        (labelme(shape(None, [[2, 1], [5, 1], [5, 4], [2, 4]])), "cat"),
        (labelme(shape("rectangle", [[5, 4], [2.0, 1.0]])), "0"),
        (labelme(shape("rectangle", [[2, 1], [5, 1], [5, 4], [2, 4]])), None),
        (labelme(picture()), None),
        (labelme(picture(ONES * 255, [[2, 1], [4.9, 3.9]])), None),
        (labelme(shape("point", [[1, 1]], "dog"), shape("rectangle", [[2, 1], [5, 4]])), "cat"),
        (labelme(shape("rectangle", [[2, 1], [5, 4]], "3"), shape("point", [[1, 1]], "dog")), "3"),
        (labelme(shape("rectangle", [[2, 1], [5, 4]]), imageWidth=None, imageHeight=None), None),
    ],
)
def test_every_form_of_one_square_gives_its_mask(document: object, key: str | None) -> None:
    assert np.array_equal(read_annotation(document, SIZE, key), SQUARE_MASK)


def test_annotations_of_one_category_and_shapes_of_one_label_are_united() -> None:
    expected = np.maximum(box_mask(SIZE, (0, 0, 3, 6)), SQUARE_MASK)
    document = coco(coco_entry(3, LEFT), coco_entry(4, RUNS), coco_entry(5, RIGHT, category_id=2))
    assert np.array_equal(read_annotation(document, SIZE, "cat"), expected)
    document = labelme(shape("rectangle", [[0, 0], [3, 6]]), picture(), shape("rectangle", [[5, 0], [9, 6]], "dog"))
    assert np.array_equal(read_annotation(document, SIZE, "cat"), expected)


def test_a_mask_at_the_photos_border_is_read_as_labelme_writes_it() -> None:
    """Labelme's box ends one pixel after the object, and its PNG ends there too, or at the border."""
    inner = np.zeros((4, 4), np.uint8)
    inner[:3, :3] = 1
    document = labelme(picture(inner, [[2, 1], [5, 4]]))
    assert np.array_equal(read_annotation(document, SIZE), SQUARE_MASK)
    document = labelme(picture(ONES[:2, :2], [[7, 4], [9, 6]]))
    assert np.array_equal(read_annotation(document, SIZE), box_mask(SIZE, (7, 4, 9, 6)))


def test_polygons_and_circles_are_antialiased() -> None:
    points = [[2.5, 1.0], [7.25, 1.5], [4.0, 5.5]]
    flat = [value for point in points for value in point]
    expected = polygon_mask(SIZE, [[(x, y) for x, y in points]])
    assert np.array_equal(read_annotation([flat], SIZE), expected)
    assert np.array_equal(read_annotation(labelme(shape("polygon", points)), SIZE), expected)
    document = labelme(shape("circle", [[30, 20], [30, 32]]), imageWidth=60, imageHeight=40)
    mask = read_annotation(document, (60, 40))
    assert mask.sum() / 255 == pytest.approx(math.pi * 12**2, rel=0.004)
    assert np.unique(mask).size > 10


def test_a_file_is_read_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "a#b.jsonl" / "All.JSON"
    path.parent.mkdir()
    path.write_text(json.dumps(coco(coco_entry(3, LEFT, category_id=2), coco_entry(4, SQUARE))), encoding="utf-8-sig")
    assert all(np.array_equal(load_annotation(f"{path}#{key}", SIZE), SQUARE_MASK) for key in ("4", "cat"))
    path.write_text(json.dumps(labelme(shape("rectangle", [[2, 1], [5, 4]], "c#1"))))
    for name in (str(path), f"{path}#", f"{path}#c#1", f"{path}#0", path):
        assert np.array_equal(load_annotation(name, SIZE), SQUARE_MASK)


def test_annotations_are_told_from_pictures() -> None:
    names = ["a.json", "a.JSON#3", "b/c.json#cat", "a#b.json"]
    others = ["a.png", "a.json.png", "a.png#a", "json", "a.jsonl#3"]
    sources: list[object] = [{}, {"shapes": []}, *names, *map(Path, names)]
    assert all(map(is_annotation, sources))
    assert not any(map(is_annotation, [None, [], 3, b"a.json", SQUARE_MASK, *others, *map(Path, others)]))


TWO = coco(coco_entry(3, LEFT), coco_entry(4, RIGHT, category_id=2))
ROUND = shape("circle", [[1, 1], [2, 2]])
TRIANGLE = [[1, 1], [5, 1], [5, 5]]
PARTS: Objects = ({}, 5, [1, 2, 3, 4, 5, 6, 7], [0] * 200_002)
SIZES: Objects = ([9, 6], ["6", "9"], [-6, -9], [10**6, 10**6], [[6], {}])
HEIGHTS: Objects = (7, None, "6", 6.5, [6])
POINTS: Objects = (5, [5], [1, 2, 3], "ab", {"x": 1, "y": 2})
COORDINATES: Objects = (None, "6", True, [6], math.nan, -math.inf, 1e300, 10**5000)
NUMBERS: Objects = ([], [53], [54, 1], [55, -1], [27.0, 27], ["54"], [True, 53], [10**5000], [[54]], [0] * 99, None)
LISTS: Objects = (None, {"3": {}}, [3])
# Empty, cut, characters outside the 64, over 30 bits, a negative count, and more characters than the photo can need.
TEXTS: Objects = ("", "f", "f1 ", "f1\u0131", "\ud800", b"\xff\x00", "oooooooo0", "ooooo?", "N", "0" * 1000)
PICTURES = (
    *(b"", b"GIF89a", PNG[:40], PNG[:-20], PNG.replace(b"IDAT", b"IDAU"), PNG[:-30] + b"?" + PNG[-29:]),
    *(png_claiming(3, 3, 16), png_claiming(30_000, 30_000), to_bytes(Image.new("P", (3, 3)))),
    *(to_bytes(np.zeros((3, 3, 3), np.uint8)), to_bytes(np.ones((4, 5), np.uint8))),
)


def each(code: str, *documents: object, key: str | None = None) -> list[tuple[str, object, str | None]]:
    """The code of a refusal without `annotation_`, with each document and the key."""
    return [(code, document, key) for document in documents]


REFUSED = [
    *each("unknown_format", None, {}, {"type": "Feature", "features": []}, "text", 5),
    *each("bad_segmentation", [], coco({"id": 3}), coco(coco_entry(3, "f1"))),
    *each("bad_polygon", *[[SQUARE[0], part] for part in PARTS], [[], SQUARE], [SQUARE]),
    *each("bad_points", *[[[1, 2, 3, 4, 5, value]] for value in COORDINATES]),
    *each("polygon_few_points", [[]], [[1, 2, 3, 4]]),
    *each("polygon_no_area", [[1, 1, 2, 2, 3, 3]]),
    *each("polygon_outside", [[-9, 0, -1, 0, -1, 5]]),
    *each("polygon_many_points", [[0, 0, 1, 0, 1, 1] * 20_000] * 2),
    *each("unknown_key", SQUARE, RUNS, coco_entry(4, SQUARE), key="3"),
    *each("bad_size", *[runs([54], size) for size in (None, [6], "69", [None, None])], coco(coco_entry(3, {}))),
    *each("size", *[runs([54], size) for size in SIZES], *[labelme(ROUND, imageHeight=height) for height in HEIGHTS]),
    *each("size", coco(coco_entry(3, SQUARE), images=[{"id": 7, "width": 6, "height": 9}])),
    *each("bad_counts", *[runs(counts) for counts in (*NUMBERS, *TEXTS)]),
    *each("empty", coco(), labelme()),
    *each("bad_structure", *[coco(annotations=value) for value in LISTS], [{}, 3], labelme(shapes=None)),
    *each("bad_structure", coco(coco_entry(3, SQUARE), categories=[1]), coco(coco_entry(3, SQUARE), images={})),
    *each("size", coco(coco_entry(3, SQUARE), images=[{"id": 7, "width": 9}])),
    *each("unknown_key", TWO, coco(coco_entry(3, SQUARE), categories=[]), key="bird"),
    *each("ambiguous", coco(coco_entry(3, LEFT), coco_entry(4, RIGHT, image_id=8)), key="cat"),
    *each("ambiguous", coco(coco_entry(3, LEFT), coco_entry(3, RIGHT, image_id=8)), key="3"),
    *each("too_large", coco(*[coco_entry(number, RUNS) for number in range(300)]), key="cat"),
    *each("bad_points", *[labelme(shape("polygon", [*TRIANGLE, point])) for point in POINTS]),
    *each("bad_points", labelme(shape("polygon", None)), labelme(shape("polygon", TRIANGLE * 40_000))),
    *each("polygon_few_points", *[labelme(shape("polygon", points)) for points in ([], TRIANGLE[:2])]),
    *each("bad_points", *[labelme(shape(kind, [[1, 1]])) for kind in ("rectangle", "circle", "mask")]),
    *each("polygon_no_area", labelme(shape("rectangle", TRIANGLE[:2])), labelme(shape("circle", [[1, 1], [1, 1]]))),
    *each("polygon_bad_number", labelme(shape("circle", [[1, 1], [1e6, 1e6]]))),
    *each("shape_type", *[labelme(shape(kind, TRIANGLE)) for kind in ("line", "point", "linestrip", 3, ["mask"])]),
    *each("ambiguous", TWO, labelme(ROUND, ROUND | {"label": "dog"})),
    *[case for key in ("1", "-1", "²", "9" * 5000, "bird") for case in each("unknown_key", labelme(ROUND), key=key)],
    *each("bad_picture", *[labelme(picture() | {"mask": text}) for text in (None, 3, "%%%", "é")]),
    *each("bad_picture", *[labelme(picture() | {"mask": base64.b64encode(data).decode()}) for data in PICTURES]),
    *each("bad_picture", labelme(picture(ONES, [[7, 1], [9, 3]])), labelme(picture(ONES, [[-1, 1], [1, 3]]))),
    *each("bad_picture", labelme(picture(ONES, [[4, 3], [2, 1]]))),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_a_malformed_document_is_refused_in_one_line(number: int) -> None:
    code, document, key = REFUSED[number]
    with pytest.raises(InputError) as refused:
        read_annotation(document, SIZE, key)
    assert (refused.value.param, refused.value.code) == ("mask", f"annotation_{code}"), str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 400


def test_a_refusal_names_what_there_is() -> None:
    """What there is to choose from, both sizes, and the type of a shape."""
    many = coco(*[coco_entry(number, LEFT) for number in range(5000)])
    images = coco(coco_entry(3, LEFT), coco_entry(4, RIGHT, image_id=8))
    labels = labelme(*[ROUND | {"label": label} for label in ("cat", "dog", "cat")])
    cases: list[tuple[object, str | None, str]] = [
        (TWO, None, r"2 objects to choose from; expected one of 3 \(cat\), 4 \(dog\);"),
        (images, "cat", r"2 objects on 2 images .* 3 \(cat\), 4 \(cat\);"),
        (many, None, r"0 \(cat\), 1 \(cat\).* and 4,992 more"),
        (labels, None, r"2 labels .* cat \(2\), dog \(1\);"),
        (labels, "bird", r"no 'bird'; expected cat \(2\), dog \(1\);"),
        (runs([54], [9, 6]), None, r"6x9 pixels; expected the photo's 9x6;"),
        (labelme(ROUND, imageWidth=6, imageHeight=9), None, r"6x9 pixels; expected the photo's 9x6;"),
        (labelme(shape("linestrip", TRIANGLE)), None, "linestrip; expected polygon, rectangle, circle, mask;"),
    ]
    for document, key, message in cases:
        with pytest.raises(InputError, match=message):
            read_annotation(document, SIZE, key)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\x89PNG\r\n\x1a\n", "not_json"),
        (b'{"annotations": [\xff]}', "not_json"),
        (b"[" * 500_000, "not_json"),
        (b'{"a":' * 500_000, "not_json"),
        (b"[" * 2_100_000, "too_large"),
        (b"[" + b"0," * 12_100_000 + b"0]", "too_large"),
        (b"[[1" + b"0" * 5000 + b",1]]", "not_json"),
        (b"[[0,0,NaN,0,1,1]]", "bad_points"),
        (b"[[0,0,Infinity,0,1,1]]", "bad_points"),
        (b"[[0,0,1e999,0,1,1]]", "bad_points"),
        (b"null", "unknown_format"),
    ],
)
def test_an_unreadable_file_is_refused_in_one_line(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        load_annotation(str(path), SIZE)
    assert (refused.value.param, refused.value.code) == ("mask", f"annotation_{code}"), str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for path in ("missing.json", "folder.json", "missing.json#3", "a\0b.json", "x" * 5000 + ".json"):
        with pytest.raises(InputError) as refused:
            load_annotation(str(tmp_path / path), SIZE)
        assert refused.value.code == "annotation_unreadable"


def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1 << 20)
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(SQUARE).encode().ljust(1 << 20))
    assert np.array_equal(load_annotation(str(path), SIZE), SQUARE_MASK)
    path.write_bytes(json.dumps(SQUARE).encode().ljust((1 << 20) + 1))
    with pytest.raises(InputError, match="over 1 MiB"):
        load_annotation(str(path), SIZE)


WORDS = ["polygon", "mask", "circle", "rectangle", "cat", "f1", "=33000;", SQUARE, RUNS, LEFT[0], [6, 9], {}, []]
LEAVES = st.none() | st.booleans() | st.integers(-2, 60) | st.integers() | st.floats() | st.text(max_size=8)
VALUES: st.SearchStrategy[object] = LEAVES | st.sampled_from(WORDS)
VALID: list[object] = [
    TWO,
    coco(coco_entry(3, RUNS), coco_entry(4, runs("=33000b0"), iscrowd=1)),
    labelme(shape("polygon", [[2, 1], [5, 1], [5, 4], [2, 4]]), shape("circle", [[2, 1], [5, 1]]), picture()),
]


def check_reading(document: object, key: str | None = None) -> None:
    """The document gives a mask of the photo's size, or a refusal in one line."""
    try:
        mask = read_annotation(document, SIZE, key)
    except InputError as fault:
        assert fault.param == "mask"
        assert fault.code.startswith("annotation_")
        assert len(str(fault)) < 1000
        return
    assert mask.shape == SIZE[::-1]
    assert mask.dtype == np.uint8


def list_places(document: object) -> list[tuple[Json, str]]:
    """Every container in a document, with each of its keys or indices."""
    keys = document.keys() if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    own: list[tuple[object, object]] = [(document, key) for key in keys]
    inner = [place for container, key in own for place in list_places(container[key])]  # type: ignore[index]
    return [*own, *inner]  # type: ignore[list-item]


@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 999), VALUES), min_size=1, max_size=2))
@settings(max_examples=400, deadline=None)
def test_a_document_with_changed_values_gives_a_mask_or_a_refusal(
    document: object, changes: list[tuple[int, object]]
) -> None:
    document = copy.deepcopy(document)
    for number, value in changes:
        places = list_places(document)
        container, key = places[number % len(places)]
        container[key] = copy.deepcopy(value)
    for chosen in (None, "cat", "3"):
        check_reading(document, chosen)


@given(VALUES | st.lists(VALUES, max_size=4) | st.dictionaries(st.sampled_from(["counts", "size"]), VALUES))
@settings(max_examples=150, deadline=None)
def test_any_small_document_gives_a_mask_or_a_refusal(document: object) -> None:
    check_reading(document)
    check_reading(coco_entry(3, document))


@given(st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=20) | st.binary(max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_compressed_text_gives_a_mask_or_a_refusal(text: str | bytes) -> None:
    check_reading(runs(text))
