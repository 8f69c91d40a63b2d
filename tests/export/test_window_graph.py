"""The window graph: resizing as in Pillow, the model's mask, and alpha, which stays inside the user's mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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
    write_graph(window_spec(), store)
    return {"window": open_graph(folder, "window")}


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
    rim: int = 0,
    opacity: Array | None = None,
) -> list[Array]:
    """Outputs `window, object_mask, window_mask, alpha` of the window graph for a window of SIDE pixels."""
    inputs = {
        "image": image,
        "opacity": np.full((1, 1), 255, np.uint8) if opacity is None else opacity,
        "mask": mask,
        "region": mask if region is None else region,
        "protect": np.zeros_like(mask) if protect is None else protect,
        "box": np.array(box),
        "size": np.array([SIDE, SIDE]),
        "rules": np.array([dilate, is_soft, rim - rim // 2, rim // 2]),
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


def test_the_models_mask_grows_by_the_rules_and_alpha_stays_inside_the_mask(graphs: dict[str, Any]) -> None:
    mask = square_mask(SIDE, 20, 30)
    _, object_mask, grown, alpha = run_window(graphs, noise(SIDE, SIDE, 3), mask, [0, 0, SIDE, SIDE])
    assert np.array_equal(object_mask, mask)
    assert np.array_equal(grown, square_mask(SIDE, 18, 32))
    assert not alpha[mask == 0].any()
    assert (alpha[square_mask(SIDE, 21, 29) > 0] == 255).all()
    edge = (mask > 0) & (square_mask(SIDE, 21, 29) == 0)
    assert {*np.unique(alpha[edge])} == {143, 191}, "the edge of a hard mask is antialiased: 9/16 in corners, else 3/4"


def test_levels_of_a_mask_are_alpha_to_the_bit(graphs: dict[str, Any]) -> None:
    mask = square_mask(120, 40, 80)
    mask[39, 40:80], mask[80, 40:80] = 64, 191
    alpha = run_window(graphs, noise(120, 120, 3), mask, [10, 10, 110, 110])[3]
    assert np.array_equal(alpha, mask[10:110, 10:110])


@pytest.mark.parametrize("thickness", [1, 2])
def test_a_wire_is_painted_in_full_and_nothing_beside_it(graphs: dict[str, Any], thickness: int) -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[100 : 100 + thickness, 20:180] = 255
    alpha = run_window(graphs, noise(200, 200, 3), mask, [0, 0, 200, 200])[3]
    assert np.array_equal(alpha, mask)


def test_an_edge_where_the_photo_ends_is_not_softened(graphs: dict[str, Any]) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[:30, :30] = 255
    alpha = run_window(graphs, noise(60, 60, 3), mask, [-9, -9, 51, 51])[3]
    assert (alpha[9:37, 9:37] == 255).all() and not alpha[:9].any() and not alpha[:, :9].any()


@pytest.mark.parametrize("rim", [1, 2, 5, 12])
def test_a_rim_widens_alpha_by_its_pixels_with_a_soft_edge(graphs: dict[str, Any], rim: int) -> None:
    mask = square_mask(120, 40, 80)
    alpha = run_window(graphs, noise(120, 120, 3), mask, [0, 0, 120, 120], rim=rim)[3]
    assert (alpha[mask > 0] == 255).all()
    assert not alpha[square_mask(120, 40 - rim, 80 + rim) == 0].any()
    assert alpha[square_mask(120, 40 - rim + rim // 3, 80 + rim - rim // 3) > 0].all()
    assert rim == 1 or {*np.unique(alpha)} > {0, 255}


def test_no_unedited_band_is_left_beside_what_is_protected(graphs: dict[str, Any]) -> None:
    mask, protect = square_mask(120, 30, 90), np.zeros((120, 120), np.uint8)
    protect[:, 60:62] = 255
    cut = np.where(protect > 0, 0, mask).astype(np.uint8)
    alpha = run_window(graphs, noise(120, 120, 3), cut, [0, 0, 120, 120], protect=protect)[3]
    assert not alpha[:, 60:62].any()
    assert (alpha[32:88, 56:60] == 255).all() and (alpha[32:88, 62:66] == 255).all()


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
    assert object_mask.any() and {*np.unique(grown)} == {0, 255}, "the model reads a binary mask"
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


def test_colours_under_transparent_pixels_reach_no_window_pixel(graphs: dict[str, Any]) -> None:
    image, mask = noise(97, 97, 3), square_mask(97, 30, 60)
    opacity = noise(97, 97, seed=1) * (noise(97, 97, seed=2) < 128)
    opacity[:40, :40] = 0
    windows = [
        run_window(graphs, np.where(opacity[:, :, None] == 0, hidden, image), mask, [-5, -5, 92, 92], opacity=opacity)
        for hidden in (np.uint8(0), np.uint8(255), image[::-1])
    ]
    for window in windows[1:]:
        assert all(np.array_equal(one, other) for one, other in zip(window, windows[0], strict=True))
    assert (windows[0][0][:15, :15] == 128).all()  # nothing is visible there


def test_visible_colours_are_averaged_by_their_opacity(graphs: dict[str, Any]) -> None:
    side = 2 * SIDE
    image, opacity = np.full((side, side, 3), 40, np.uint8), np.full((side, side), 255, np.uint8)
    image[:, 1::2], opacity[:, 1::2] = 200, 51
    pixels = run_window(graphs, image, square_mask(side, 30, 60), [0, 0, side, side], opacity=opacity)[0]
    assert np.abs(pixels[:, 2:-2].astype(int) - round((40 * 255 + 200 * 51) / 306)).max() <= 1


def test_an_opaque_alpha_is_as_no_alpha(graphs: dict[str, Any]) -> None:
    image, mask = noise(120, 120, 3), square_mask(120, 30, 60)
    plain = run_window(graphs, image, mask, [3, 5, 110, 112])
    opaque = run_window(graphs, image, mask, [3, 5, 110, 112], opacity=np.full((120, 120), 255, np.uint8))
    assert all(np.array_equal(one, other) for one, other in zip(plain, opaque, strict=True))
