"""The paste graph: pixels that are exactly the photo's, the model's pixels enlarged, and the local colour map on the photo's detail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import DetailRules
from alterbute_export.checks.parity import check_parity
from alterbute_export.graphs.paste import paste_spec
from alterbute_export.graphs.spec import Array
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.onnx_io.write_onnx import write_graph

from tests.export.conftest import open_graph

SIDE = 48
RULES = DetailRules(radius=4, ridge=3e-4, threshold=0.15, attributes=("color",))
MODEL, PHOTO, ALL = -1.0, 1e18, 0.0
"""Thresholds: the model's pixels alone, the colour map alone, and the map with all that it does not explain."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paste_graph")
    (path / "weights.bin").write_bytes(bytes(64))
    for bits in (8, 16):
        write_graph(paste_spec(RULES, SIDE, bits), WeightStore(path, half=True))
    return path


@pytest.fixture(scope="module")
def graph(folder: Path) -> Any:
    return open_graph(folder, "paste")


@pytest.fixture(scope="module")
def graph16(folder: Path) -> Any:
    return open_graph(folder, "paste16")


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(side: int, seed: int = 0) -> Array:
    """A picture [side,side,3] of soft blobs, as round trips are."""
    coarse = np.random.default_rng(seed).uniform(20, 235, (side // 8 + 1, side // 8 + 1, 3))
    fine = np.kron(coarse, np.ones((8, 8, 1)))[:side, :side]
    return np.clip(fine + np.random.default_rng(seed + 1).normal(0, 12, fine.shape), 0, 255).astype(np.uint8)


def paste(
    graph: Any,
    edited: Array,
    photo: Array,
    alpha: Array,
    *,
    roundtrip: Array | None = None,
    threshold: float = MODEL,
    object_mask: Array | None = None,
) -> Array:
    inputs = {
        "edited": edited,
        "roundtrip": edited if roundtrip is None else roundtrip,
        "object_mask": np.full(edited.shape[:2], 255, np.uint8) if object_mask is None else object_mask,
        "threshold": np.array([threshold], np.float32),
        "photo": photo,
        "alpha": alpha,
    }
    pasted: Array = graph.run(None, inputs)[0]
    return pasted


@pytest.mark.parametrize("threshold", [MODEL, PHOTO, 0.3, ALL])
@pytest.mark.parametrize("side", [20, SIDE, 131])
def test_a_pixel_of_alpha_zero_is_never_changed(graph: Any, side: int, threshold: float) -> None:
    photo, alpha = noise(side, side, 3, seed=1), noise(side, side, seed=2)
    alpha[alpha < 128] = 0
    roundtrip = noise(SIDE, SIDE, 3, seed=3)
    pasted = paste(graph, noise(SIDE, SIDE, 3), photo, alpha, roundtrip=roundtrip, threshold=threshold)
    assert np.array_equal(pasted[alpha == 0], photo[alpha == 0])
    assert not np.array_equal(pasted, photo)


def test_the_models_pixels_over_a_whole_window_are_the_edit_itself(graph: Any) -> None:
    edited, photo = noise(SIDE, SIDE, 3), noise(SIDE, SIDE, 3, seed=1)
    assert np.array_equal(paste(graph, edited, photo, np.full((SIDE, SIDE), 255, np.uint8)), edited)


@pytest.mark.parametrize("threshold", [MODEL, 0.3])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (130, 70, 131, 71), (5, 9, 60, 101), (0, 0, 131, 131), (0, 0, 0, 0)])
def test_the_box_around_alpha_is_blended_as_the_whole_is(graph: Any, box: tuple[int, ...], threshold: float) -> None:
    edited, photo, alpha = smooth(SIDE), noise(131, 131, 3, seed=1), np.zeros((131, 131), np.uint8)
    part = np.s_[box[0] : box[2], box[1] : box[3]]
    alpha[part] = noise(131, 131, seed=2)[part] | 1
    pasted, whole = (
        paste(graph, edited, photo, weights, roundtrip=smooth(SIDE, 5), threshold=threshold)
        for weights in (alpha, noise(131, 131, seed=2) | 1)
    )
    assert np.array_equal(pasted[part], whole[part])
    pasted[part] = photo[part]
    assert np.array_equal(pasted, photo)


@pytest.mark.parametrize("threshold", [PHOTO, 0.3, ALL])
def test_an_edit_that_changes_nothing_gives_the_photo(graph: Any, threshold: float) -> None:
    photo, alpha = noise(145, 145, 3), noise(145, 145, seed=1)
    assert np.array_equal(paste(graph, smooth(SIDE), photo, alpha, threshold=threshold), photo)


def test_a_colour_map_is_applied_to_the_photos_own_pixels(graph: Any) -> None:
    roundtrip, photo = noise(SIDE, SIDE, 3), noise(145, 145, 3, seed=1)
    matrix = np.array([[0.5, 0.1, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.6]])
    shift = np.array([20.0, 10.0, 30.0])
    edited = np.rint(roundtrip @ matrix + shift).astype(np.uint8)
    alpha = np.full((145, 145), 255, np.uint8)
    pasted = paste(graph, edited, photo, alpha, roundtrip=roundtrip, threshold=PHOTO)
    assert np.abs(pasted - (photo @ matrix + shift)).max() <= 2


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("target", [0, 128, 255])
def test_an_object_of_one_colour_takes_another(graph: Any, value: int, target: int) -> None:
    """The covariance is singular there."""
    roundtrip, edited = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (value, target))
    photo, alpha = np.full((70, 70, 3), value, np.uint8), np.full((70, 70), 255, np.uint8)
    for threshold in (PHOTO, 0.3, ALL):
        pasted = paste(graph, edited, photo, alpha, roundtrip=roundtrip, threshold=threshold)
        assert np.abs(pasted.astype(int) - target).max() <= 1


def test_with_threshold_zero_a_window_of_the_models_size_is_the_edit(graph: Any) -> None:
    edited, roundtrip = noise(SIDE, SIDE, 3), noise(SIDE, SIDE, 3, seed=1)
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    assert np.array_equal(paste(graph, edited, roundtrip, alpha, roundtrip=roundtrip, threshold=ALL), edited)


def test_an_object_smaller_than_a_window_pixel_divides_by_no_zero(graph: Any) -> None:
    empty, photo = np.zeros((SIDE, SIDE), np.uint8), noise(900, 900, 3, seed=1)
    alpha = np.zeros((900, 900), np.uint8)
    alpha[400:405, 300:306] = 255
    with_all, without = (
        paste(graph, smooth(SIDE), photo, alpha, roundtrip=smooth(SIDE, 5), threshold=threshold, object_mask=empty)
        for threshold in (ALL, PHOTO)
    )
    assert np.array_equal(with_all, without), "the residual is never added outside the object"
    assert not np.array_equal(without, photo)


@pytest.mark.parametrize("threshold", [MODEL, ALL, 0.3])
@pytest.mark.parametrize("size", [(7, 9), (23, 31), (145, 145), (161, 33), (200, 64), (16, 16), (5, 33)])
def test_boxes_of_every_form_are_torchs(folder: Path, size: tuple[int, int], threshold: float) -> None:
    spec = paste_spec(RULES, SIDE)
    sizes = {"SH": SIDE, "SW": SIDE, "BH": size[0], "BW": size[1]}
    draw = {**spec.draw, "threshold": lambda generator, shape, sizes: np.full(shape, threshold)}
    check_parity(replace(spec, check_sizes=(sizes,), draw=draw), folder / "paste.onnx")


def test_a_large_window_is_fitted_on_half_the_grid_and_is_torchs(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    spec = paste_spec(replace(RULES, radius=8), 512)
    text, whole = spec.graph, paste_spec(replace(RULES, radius=8), 128).graph
    assert isinstance(text, str) and isinstance(whole, str)
    assert "strides = [2, 2]" in text and "strides" not in whole
    check_parity(spec, write_graph(spec, WeightStore(tmp_path, half=True)))


@pytest.mark.parametrize("threshold", [MODEL, PHOTO, 0.3, ALL])
def test_16_bits_are_pasted_in_16(graph: Any, graph16: Any, threshold: float) -> None:
    edited, roundtrip, alpha = smooth(SIDE), smooth(SIDE, seed=4), noise(145, 145, seed=2)
    alpha[:40] = 0
    photo = np.random.default_rng(3).integers(0, 65536, (145, 145, 3), np.uint16)
    pasted = paste(graph16, edited, photo, alpha, roundtrip=roundtrip, threshold=threshold)
    assert pasted.dtype == np.uint16
    assert np.array_equal(pasted[alpha == 0], photo[alpha == 0])
    # On levels that 8 bits can state, both graphs differ by the rounding to 8 bits.
    coarse = noise(145, 145, 3, seed=5)
    fine = paste(graph16, edited, coarse.astype(np.uint16) * 257, alpha, roundtrip=roundtrip, threshold=threshold)
    plain = paste(graph, edited, coarse, alpha, roundtrip=roundtrip, threshold=threshold)
    assert np.abs(fine / 257 - plain).max() <= 0.51
    # Neighbouring levels of 16 bits stay apart.
    next_level = (coarse.astype(np.uint16) * 257).clip(0, 65000) + 100
    assert (paste(graph16, edited, next_level, alpha, roundtrip=roundtrip, threshold=PHOTO) % 257 != 0).any()


@pytest.mark.parametrize("threshold", [PHOTO, 0.3, ALL])
def test_an_edit_that_changes_nothing_gives_the_photo_of_16_bits(graph16: Any, threshold: float) -> None:
    photo = np.random.default_rng(3).integers(0, 65536, (145, 145, 3), np.uint16)
    assert np.array_equal(paste(graph16, smooth(SIDE), photo, noise(145, 145), threshold=threshold), photo)
