"""The window and paste graphs: resizing as in Pillow, and pixels that are exactly those of photo or edit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from alterbute.bundle import MaskRules
from alterbute_export.graphs.paste import paste_spec
from alterbute_export.graphs.spec import Array
from alterbute_export.graphs.window import window_spec
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.onnx_io.write_onnx import write_graph
from PIL import Image

from tests.export.conftest import open_graph

SIDE = 48


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("image_graphs")
    store = WeightStore(folder, half=True)
    (folder / "weights.bin").write_bytes(bytes(64))
    for spec in (window_spec(MaskRules(dilate=5, feather=3, margin=1.4)), paste_spec()):
        write_graph(spec, store)
    return {name: open_graph(folder, name) for name in ("window", "paste")}


def run_window(
    graphs: dict[str, Any],
    image: Array,
    mask: Array,
    box: list[int],
    *,
    region: Array | None = None,
    protect: Array | None = None,
    dilate: int = 2,
    is_soft: bool = False,
) -> list[Array]:
    """Outputs `window, object_mask, window_mask, alpha` of the window graph for a window of SIDE pixels."""
    inputs = {
        "image": image,
        "mask": mask,
        "region": mask if region is None else region,
        "protect": np.zeros_like(mask) if protect is None else protect,
        "box": np.array(box),
        "size": np.array([SIDE, SIDE]),
        "rules": np.array([dilate, is_soft]),
    }
    result: list[Array] = graphs["window"].run(None, inputs)
    return result


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def square_mask(side: int, start: int, stop: int) -> Array:
    mask = np.zeros((side, side), np.uint8)
    mask[start:stop, start:stop] = 255
    return mask


def test_a_box_of_the_windows_size_is_copied_exactly(graphs: dict[str, Any]) -> None:
    image, mask = noise(90, 70, 3), np.zeros((90, 70), np.uint8)
    mask[20:40, 20:40] = 255
    pixels, object_mask, _, _ = run_window(graphs, image, mask, [7, 9, 7 + SIDE, 9 + SIDE])
    assert np.array_equal(pixels, image[7 : 7 + SIDE, 9 : 9 + SIDE])
    assert np.array_equal(object_mask, mask[7 : 7 + SIDE, 9 : 9 + SIDE])


@pytest.mark.parametrize("side", [24, 47, 49, 96, 131, 700])
def test_resize_is_pillows_within_one_level(graphs: dict[str, Any], side: int) -> None:
    image = noise(side, side, 3, seed=side)
    pixels = run_window(graphs, image, square_mask(side, side // 3, 2 * side // 3), [0, 0, side, side])[0]
    expected = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_a_box_beyond_the_picture_repeats_its_edge_and_has_no_mask_there(graphs: dict[str, Any]) -> None:
    image, mask = noise(30, 30, 3), np.full((30, 30), 255, np.uint8)
    pixels, object_mask, _, alpha = run_window(graphs, image, mask, [-9, -9, 39, 39])
    assert np.array_equal(pixels, np.pad(image, ((9, 9), (9, 9), (0, 0)), mode="edge"))
    assert np.array_equal(object_mask, np.pad(mask, 9))
    assert alpha.shape == (48, 48)


def test_masks_grow_by_the_rules_and_alpha_covers_them(graphs: dict[str, Any]) -> None:
    _, object_mask, grown, alpha = run_window(
        graphs, noise(SIDE, SIDE, 3), square_mask(SIDE, 20, 30), [0, 0, SIDE, SIDE]
    )
    assert np.array_equal(object_mask, square_mask(SIDE, 20, 30))
    assert np.array_equal(grown, square_mask(SIDE, 18, 32))
    assert (alpha[grown > 0] == 255).all()
    assert (alpha[square_mask(SIDE, 16, 34) == 0] == 0).all()
    assert {*np.unique(alpha)} > {0, 255}


@pytest.mark.parametrize("dilate", [0, 1, 6])
def test_the_region_grows_by_the_pixels_of_the_rules(graphs: dict[str, Any], dilate: int) -> None:
    grown = run_window(graphs, noise(SIDE, SIDE, 3), square_mask(SIDE, 20, 30), [0, 0, SIDE, SIDE], dilate=dilate)[2]
    assert np.array_equal(grown, square_mask(SIDE, 20 - dilate, 30 + dilate))


def test_blend_weights_become_alpha_to_the_bit_and_do_not_grow(graphs: dict[str, Any]) -> None:
    weights = noise(120, 120, seed=4)
    weights[:30] = 0
    _, object_mask, grown, alpha = run_window(
        graphs, noise(120, 120, 3), square_mask(120, 40, 80), [10, 10, 110, 110], region=weights, is_soft=True, dilate=9
    )
    assert np.array_equal(alpha, weights[10:110, 10:110])
    assert object_mask.any() and {*np.unique(grown)} > {0}
    assert not grown[:8].any()


def test_what_is_protected_is_never_touched_at_the_photos_resolution(graphs: dict[str, Any]) -> None:
    protect = noise(200, 200, seed=5)
    protect[protect < 200] = 0
    protect[:60] = 0
    _, _, grown, alpha = run_window(
        graphs, noise(200, 200, 3), square_mask(200, 30, 170), [0, 0, 200, 200], protect=protect, dilate=4
    )
    assert not alpha[protect > 0].any() and alpha.any()
    assert grown[8:12, 12:36].all() and not grown[16:36, 12:36].all()


def test_a_hair_is_not_lost(graphs: dict[str, Any]) -> None:
    mask = np.zeros((960, 960), np.uint8)
    mask[400:410, 500] = 255
    _, object_mask, grown, alpha = run_window(graphs, noise(960, 960, 3), mask, [0, 0, 960, 960])
    assert object_mask.any() and grown.any() and alpha.any()


def test_an_empty_mask_stays_empty(graphs: dict[str, Any]) -> None:
    outputs = run_window(graphs, noise(60, 60, 3), np.zeros((60, 60), np.uint8), [0, 0, 60, 60])
    assert not any(output.any() for output in outputs[1:])


@pytest.mark.parametrize("side", [20, SIDE, 131])
def test_paste_never_changes_a_pixel_of_alpha_zero(graphs: dict[str, Any], side: int) -> None:
    photo, alpha = noise(side, side, 3, seed=1), noise(side, side, seed=2)
    alpha[alpha < 128] = 0
    pasted = graphs["paste"].run(None, {"edited": noise(SIDE, SIDE, 3), "photo": photo, "alpha": alpha})[0]
    assert np.array_equal(pasted[alpha == 0], photo[alpha == 0])
    assert not np.array_equal(pasted, photo)


def test_paste_of_a_whole_window_is_the_edit_itself(graphs: dict[str, Any]) -> None:
    edited, photo = noise(SIDE, SIDE, 3), noise(SIDE, SIDE, 3, seed=1)
    pasted = graphs["paste"].run(
        None, {"edited": edited, "photo": photo, "alpha": np.full((SIDE, SIDE), 255, np.uint8)}
    )[0]
    assert np.array_equal(pasted, edited)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (130, 70, 131, 71), (5, 9, 60, 101), (0, 0, 131, 131), (0, 0, 0, 0)])
def test_paste_blends_the_box_around_alpha_as_it_blends_the_whole(graphs: dict[str, Any], box: tuple[int, ...]) -> None:
    edited, photo, alpha = noise(SIDE, SIDE, 3), noise(131, 131, 3, seed=1), np.zeros((131, 131), np.uint8)
    part = np.s_[box[0] : box[2], box[1] : box[3]]
    alpha[part] = noise(131, 131, seed=2)[part] | 1
    pasted, whole = (
        graphs["paste"].run(None, {"edited": edited, "photo": photo, "alpha": weights})[0]
        for weights in (alpha, noise(131, 131, seed=2) | 1)
    )
    assert np.array_equal(pasted[part], whole[part])
    pasted[part] = photo[part]
    assert np.array_equal(pasted, photo)
