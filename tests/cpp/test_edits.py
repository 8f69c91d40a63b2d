"""The same request gives the same image bytes from C++ as from Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from alterbute import Editor
from alterbute.errors import AlterbuteError, InputError
from alterbute.images.photo import Bytes, Photo, Pixels

from tests.cpp.driver import Driver, Refused
from tests.support.pictures import noise

SIZES = ((64, 64), (96, 80), (47, 133), (200, 150), (64, 300), (33, 40), (512, 384))


def draw_photo(height: int, width: int, channels: int = 3, seed: int = 0) -> Bytes:
    """Smooth colours under some noise: neither flat nor beyond what a window keeps."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [
        127 + 90 * np.sin(rows / (7 + channel + seed % 5) + columns / (11 - channel) + seed)
        for channel in range(channels)
    ]
    photo: Bytes = np.clip(np.stack(waves, axis=2) + noise(height, width, channels, seed) % 16, 0, 255).astype(np.uint8)
    return photo


def draw_mask(height: int, width: int, kind: int) -> Bytes:
    """A disc, a bar at the border, some pixels, two islands, a ring or a ramp."""
    rows, columns = np.mgrid[0:height, 0:width]
    distance = np.hypot(rows - height * 0.55, columns - width * 0.45) / min(height, width)
    shapes = [
        distance < 0.25,
        (columns < width // 5) & (rows > height // 3),
        (rows == height // 2) & (abs(columns - width // 2) < 3),
        (distance < 0.12) | ((rows > height - 9) & (columns > width - 12)),
        (distance > 0.2) & (distance < 0.3),
    ]
    if kind == len(shapes):
        ramp: Bytes = np.clip(255 * (1.2 - 3 * distance), 0, 255).astype(np.uint8)
        return ramp
    return np.where(shapes[kind], np.uint8(255), np.uint8(0))


def cut_out(photo: Bytes) -> Bytes:
    """The photo with a disc of it on a transparent layer."""
    return np.dstack((photo, draw_mask(photo.shape[0], photo.shape[1], 0)))


def paint(ground: tuple[int, int, int], color: tuple[int, int, int], *, blur: bool = False) -> Bytes:
    """A mask in colour: a disc on a ground, with soft edges if `blur`."""
    disc = draw_mask(96, 80, 0)
    coverage = (soften(disc) if blur else disc)[:, :, None] / 255
    painted: Bytes = np.rint(coverage * color + (1 - coverage) * ground).astype(np.uint8)
    return painted


def soften(mask: Bytes) -> Bytes:
    """The mask with edges of grey levels."""
    padded = np.pad(mask.astype(np.uint16), 1, mode="edge")
    height, width = mask.shape
    total = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return (np.asarray(total) // 9).astype(np.uint8)


def with_dust(mask: Bytes) -> Bytes:
    """The mask with single marked pixels far from its object."""
    dusty = mask.copy()
    dusty[2, 2] = dusty[5, -3] = dusty[-2, 4] = 255
    return dusty


def two_objects(height: int, width: int) -> Bytes:
    """Two discs, so far apart that each is edited in a window of its own."""
    rows, columns = np.mgrid[0:height, 0:width]
    near, far = (np.hypot(rows - y, columns - x) < 40 for y, x in ((60, 70), (height - 80, width - 60)))
    return np.where(near | far, np.uint8(255), np.uint8(0))


def make_requests() -> list[tuple[Bytes, Bytes, dict[str, Any]]]:
    """Photo, mask and options of over 50 requests, each another corner."""
    solvers = ("ddim", "euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m", "unipc", "heun", "lcm", "plms")
    requests: list[tuple[Bytes, Bytes, dict[str, Any]]] = []

    def add(**options: Any) -> None:
        number = len(requests)
        size = SIZES[number % len(SIZES)]
        options = {"prompt": "color: red", "seed": number, "steps": 3, **options}
        requests.append((draw_photo(*size, seed=number), draw_mask(*size, number % 5), options))

    for solver in solvers:
        for steps in (1, 4, 9):
            add(solver=solver, steps=steps, seed=2**40 + steps)
    add()  # the bundle's own solver
    add(steps=20, prompt="")
    add(steps=25, solver="euler_a", seed=2**63 - 1)
    for guidance in (0.0, 1.0, 1.5, 7.5):
        add(guidance=guidance, negative_prompt="color: green", prompt="color: blue")
    add(guidance=3.0, guidance_interval=[0.0, 0.6], steps=5)
    add(guidance=3.0, guidance_interval=[0.3, 0.9], steps=7, solver="heun")
    add(guidance=4.0, guidance_rescale=0.7)
    add(guidance=2.0, guidance_rescale=1.0, solver="euler_a", steps=5)
    for scale in (0.0, 0.5, 2.5):
        add(identity_scale=scale)
    add(reinject=True, steps=6)
    add(reinject=True, steps=4, solver="euler_a", guidance=1.0)
    for strength in (0.3, 0.6, 0.95):
        add(strength=strength, steps=10, solver="ddim")
    add(strength=0.5, steps=8, solver="euler_a")
    add(prompt="color: Größe <|endoftext|> 😀")
    add(dilate=1)
    add(dilate=9)
    add(mask_kind="box", steps=4)
    add(mask_polarity="black", steps=2)
    photo, _, options = requests[-1]
    requests[-1] = (photo, 255 - draw_mask(photo.shape[0], photo.shape[1], 0), options)
    return requests


REQUESTS = make_requests()


def python_edit(
    editor: Editor, photo: Pixels | Photo, mask: Pixels | None, options: dict[str, Any]
) -> tuple[list[Pixels], list[Bytes], Any]:
    """Images, alphas and the first result; requests of several images are prepared and edited in two calls."""
    kept = {
        name: options[name]
        for name in (
            *("reference", "reference_mask", "mask_polarity", "mask_kind"),
            *("mask_value", "protect", "dilate", "rim"),
        )
        if name in options
    }
    rest = {name: value for name, value in options.items() if name not in kept}
    if "guidance_interval" in rest:
        rest["guidance_interval"] = tuple(rest["guidance_interval"])
    prompt = rest.pop("prompt")
    if rest.get("count", 1) == 1:
        results = [editor.edit(photo, mask, prompt, **kept, **rest)]
    else:
        results = editor.prepare(photo, mask, **kept).edit_many([prompt], **rest)
    return [result.pixels for result in results], [result.alpha for result in results], results[0]


def assert_same_edit(editor: Editor, driver: Driver, photo: Bytes, mask: Bytes | None, options: dict[str, Any]) -> None:
    ours, our_alphas, first = python_edit(editor, photo, mask, options)
    theirs, their_alphas, told = driver.edit(photo, mask, **options)
    assert len(ours) == len(theirs)
    for our, their in zip([*ours, *our_alphas], [*theirs, *their_alphas], strict=True):
        assert np.array_equal(our.reshape(their.shape), their), (
            f"{(our.reshape(their.shape) != their).sum()} bytes differ"
        )
    assert told["seed"] == first.seed
    assert tuple(told["warnings"]) == first.warnings
    assert (told["detail"], told["detail_threshold"]) == (first.detail, [first.detail_threshold])


def test_there_are_over_fifty_requests() -> None:
    assert len(REQUESTS) >= 50


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_image_bytes_are_pythons(python_editor: Editor, cpp_editor: Driver, number: int) -> None:
    assert_same_edit(python_editor, cpp_editor, *REQUESTS[number])


@pytest.mark.parametrize(
    "options",
    [
        {"mask": draw_mask(96, 80, 5), "mask_kind": "soft"},
        {"protect": draw_mask(96, 80, 1)},
        {"protect": draw_mask(96, 80, 2), "mask_kind": "box", "dilate": 5},
        {"reference": draw_photo(70, 120, seed=9)},
        {"reference": draw_photo(70, 120, seed=9), "reference_mask": draw_mask(70, 120, 0)},
        {"reference": np.dstack((draw_photo(300, 64, seed=3), draw_mask(300, 64, 0)))},
        {"reference": draw_photo(2100, 2300, seed=4)},
        {"photo": draw_photo(96, 80, 1, seed=5)},
        {"photo": np.dstack((draw_photo(96, 80, seed=6), draw_mask(96, 80, 5)))},
        {"mask": (draw_mask(96, 80, 0) // 255).astype(np.uint8)},
        {"mask": draw_photo(96, 80, seed=8), "mask_polarity": "white"},
        {"mask": np.dstack((draw_photo(96, 80, seed=1), 255 - draw_mask(96, 80, 0)))},
        {"mask": cut_out(draw_photo(96, 80, seed=1))},
        {"mask": cut_out(draw_photo(96, 80, seed=8)), "mask_polarity": "opaque"},
        {"mask": cut_out(np.full((96, 80, 3), 255, np.uint8))},
        {"mask": paint((0, 0, 0), (128, 0, 0))},
        {"mask": paint((255, 255, 255), (255, 0, 0), blur=True)},
        {"mask": paint((0, 0, 0), (7, 7, 7))},
        {"mask": draw_mask(96, 80, 0) // 255 * 3 + draw_mask(96, 80, 1) // 255 * 4, "mask_value": "3"},
        {"mask": paint((9, 9, 9), (0, 64, 255)), "mask_value": "#0040ff"},
        {"mask": soften(draw_mask(96, 80, 0))},
        {"mask": soften(draw_mask(96, 80, 0)), "rim": 4},
        {"mask": draw_mask(96, 80, 0), "rim": 7, "protect": draw_mask(96, 80, 2)},
        {"mask": with_dust(draw_mask(96, 80, 0))},
        {"mask": 255 - draw_mask(96, 80, 0)},
        {"photo": np.dstack((draw_photo(96, 80, seed=6), draw_mask(96, 80, 0))), "mask": None},
        {"photo": draw_photo(600, 800, seed=6), "mask": two_objects(600, 800)},
        {"photo": draw_photo(600, 800, seed=6), "mask": two_objects(600, 800), "mask_kind": "box", "count": 2},
        {"photo": draw_photo(600, 800, seed=6), "mask": two_objects(600, 800), "protect": draw_mask(600, 800, 1)},
        {"detail": "model"},
        {"detail": "photo", "mask_kind": "box"},
        {"detail": "photo", "reference": draw_photo(70, 120, seed=9)},
        {"prompt": "green"},
        {"prompt": ""},
        {"prompt": "something else"},
        {"mask": np.dstack((draw_photo(96, 80, seed=8), 255 - draw_mask(96, 80, 0))), "mask_polarity": "white"},
        {"count": 6, "solver": "euler_a"},
        {"count": 3, "guidance": 1.0, "solver": "heun"},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_kind_of_picture_and_mask_is_taken_as_in_python(
    python_editor: Editor, cpp_editor: Driver, options: dict[str, Any]
) -> None:
    options = {"prompt": "color: green", "seed": 11, "steps": 3, **options}
    photo = options.pop("photo", draw_photo(96, 80, seed=1))
    mask = options.pop("mask", draw_mask(96, 80, 0))
    if photo.ndim == 3 and photo.shape[2] == 1:
        assert_same_edit(python_editor, cpp_editor, photo[:, :, 0], mask, options)
    else:
        assert_same_edit(python_editor, cpp_editor, photo, mask, options)


@pytest.mark.slow
def test_a_photo_of_twelve_megapixels_gives_pythons_bytes(python_editor: Editor, cpp_editor: Driver) -> None:
    photo, mask = draw_photo(3000, 4000, seed=2), draw_mask(3000, 4000, 0)
    assert_same_edit(python_editor, cpp_editor, photo, mask, {"prompt": "color: red", "seed": 3, "steps": 4})


def test_progress_and_cancel_are_pythons(python_editor: Editor, cpp_editor: Driver) -> None:
    photo, mask = draw_photo(64, 64), draw_mask(64, 64, 0)
    told: list[int] = []
    python_editor.prepare(photo, mask).edit_many(
        ["color: red"], seed=1, steps=3, count=5, progress=lambda p: told.extend((p.image, p.images, p.step, p.steps))
    )
    _, _, answer = cpp_editor.edit(photo, mask, prompt="color: red", seed=1, steps=3, count=5)
    assert answer["progress"] == told
    with pytest.raises(AlterbuteError) as ours:
        python_editor.edit(photo, mask, "color: red", steps=5, cancel=lambda: True)
    with pytest.raises(Refused) as theirs:
        cpp_editor.edit(photo, mask, prompt="color: red", steps=5, cancel_at=2)
    assert (theirs.value.kind, str(theirs.value)) == (type(ours.value).__name__, str(ours.value))


GREY = np.full((64, 64), 200, np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "color: red " * 40},
        {"prompt": "x" * 5000},
        {"prompt": "size: large; shape: round"},
        {"steps": 0},
        {"steps": 1001},
        {"seed": -1},
        {"count": 0},
        {"count": 65},
        {"solver": "magic"},
        {"guidance": 100.5},
        {"guidance": -1.0},
        {"guidance_rescale": 1.5},
        {"guidance_interval": [0.5, 0.25]},
        {"guidance_interval": [0.0, 1.25]},
        {"identity_scale": 11.0},
        {"strength": 0.0},
        {"strength": 1.5},
        {"strength": 0.01, "solver": "ddim", "steps": 5},
        {"mask": None},
        {"mask": np.zeros((64, 64), np.uint8)},
        {"mask": np.full((64, 64), 255, np.uint8)},
        {"mask": draw_mask(64, 60, 0)},
        {"mask_polarity": "alpha"},
        {"mask": np.dstack((GREY, GREY, GREY, np.full((64, 64), 255, np.uint8))), "mask_polarity": "alpha"},
        {"protect": np.full((64, 64), 255, np.uint8)},
        {"protect": draw_mask(60, 64, 0)},
        {"dilate": 2},
        {"dilate": 65},
        {"rim": -1},
        {"rim": 257},
        {"mask_value": "red"},
        {"mask_value": "9"},
        {"mask": draw_mask(64, 64, 0) // 255 * 3 + draw_mask(64, 64, 1) // 255 * 4},
        {"mask": draw_photo(64, 64, seed=1) // 64 * 64},
        {"mask": np.dstack((draw_photo(64, 64, seed=9), draw_mask(64, 64, 0)))},
        {"mask": np.full((64, 64), 100, np.uint8), "mask_polarity": "white"},
        {"mask": draw_photo(64, 64, seed=8)},
        {"mask_polarity": "opaque"},
        {"photo": draw_photo(31, 64)},
        {"photo": np.zeros((40, 16400, 3), np.uint8)},
        {"reference": draw_photo(20, 64)},
        {"reference": draw_photo(64, 64), "reference_mask": np.zeros((64, 64), np.uint8)},
        {"reference": draw_photo(64, 64), "reference_mask": draw_mask(64, 60, 0)},
        {"reference": np.zeros((64, 64, 4), np.uint8)},
    ],
    ids=lambda options: "-".join(
        f"{name}={value}" if not isinstance(value, np.ndarray) else name for name, value in options.items()
    )[:60],
)
def test_what_cannot_be_done_is_refused_in_pythons_words(
    python_editor: Editor, cpp_editor: Driver, options: dict[str, Any]
) -> None:
    options = {"prompt": "color: red", "steps": 2, **options}
    photo, mask = options.pop("photo", draw_photo(64, 64)), options.pop("mask", draw_mask(64, 64, 0))
    with pytest.raises(InputError) as ours:
        python_edit(python_editor, photo, mask, options)
    with pytest.raises(Refused) as theirs:
        cpp_editor.edit(photo, mask, **options)
    assert (str(theirs.value), theirs.value.param, theirs.value.code) == (
        str(ours.value),
        ours.value.param,
        ours.value.code,
    )
    assert theirs.value.kind == "InputError"


def test_identity_guidance_is_given_or_refused_as_in_python(python_editor: Editor, cpp_editor: Driver) -> None:
    photo, mask = draw_photo(64, 64), draw_mask(64, 64, 0)
    options = {"prompt": "color: red", "seed": 1, "steps": 3, "guidance": 1.5, "identity_guidance": 2.0}
    if "identity" in python_editor.manifest.guidance.forms:
        assert_same_edit(python_editor, cpp_editor, photo, mask, options)
        return
    with pytest.raises(InputError) as ours:
        python_edit(python_editor, photo, mask, options)
    with pytest.raises(Refused) as theirs:
        cpp_editor.edit(photo, mask, **options)
    assert str(theirs.value) == str(ours.value)


def test_steps_beyond_the_table_are_refused_and_the_table_is_named(cpp_editor: Driver) -> None:
    with pytest.raises(Refused, match="a count that the table has"):
        cpp_editor.edit(draw_photo(64, 64), draw_mask(64, 64, 0), prompt="color: red", steps=51)


def test_a_seed_is_drawn_and_told_when_none_is_given(cpp_editor: Driver) -> None:
    photo, mask = draw_photo(64, 64), draw_mask(64, 64, 0)
    first, _, told = cpp_editor.edit(photo, mask, prompt="color: red", steps=1)
    again, _, retold = cpp_editor.edit(photo, mask, prompt="color: red", steps=1)
    assert told["seed"] != retold["seed"]
    same, _, _ = cpp_editor.edit(photo, mask, prompt="color: red", steps=1, seed=told["seed"])
    assert np.array_equal(first[0], same[0])
    assert not np.array_equal(first[0], again[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slots": 0}, "slots is 0"),
        ({"device": "abacus"}, "the device is 'abacus'"),
        ({"threads": -1}, "threads is -1"),
    ],
)
def test_bad_editor_options_are_refused(
    driver: Driver, cpp_editor: Driver, demo: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        driver.ask("open", path=str(demo), **options)
    driver.ask("open", path=str(demo))


def test_without_onnx_runtime_the_error_says_how_to_find_it(driver: Driver, cpp_editor: Driver, demo: Any) -> None:
    with pytest.raises(Refused, match=r"ONNX Runtime is not found.*ALTERBUTE_ONNXRUNTIME") as refused:
        driver.ask("open", path=str(demo), onnxruntime="/no/such/libonnxruntime.so")
    assert refused.value.kind == "EngineError"
    driver.ask("open", path=str(demo))


def test_a_cpu_library_refuses_the_cuda_device_when_the_editor_opens(
    driver: Driver, cpp_editor: Driver, demo: Any
) -> None:
    from onnxruntime import get_available_providers

    if "CUDAExecutionProvider" in get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with pytest.raises(Refused, match=r"no CUDA provider that can be loaded.*onnxruntime-gpu") as refused:
        driver.ask("open", path=str(demo), device="cuda")
    assert refused.value.kind == "EngineError"
    driver.ask("open", path=str(demo))


def test_the_number_of_slots_changes_no_byte(driver: Driver, cpp_editor: Driver, demo: Any) -> None:
    photo, mask = draw_photo(64, 64), draw_mask(64, 64, 0)
    images = []
    for slots in (1, 2, 5):
        driver.ask("open", path=str(demo), slots=slots)
        found, _, _ = driver.edit(photo, mask, prompt="color: red", seed=4, steps=2, count=5, solver="euler_a")
        images.append(found)
    driver.ask("open", path=str(demo))
    for found in images[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(images[0], found, strict=True))
