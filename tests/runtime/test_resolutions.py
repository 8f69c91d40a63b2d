"""Bundles with several window sizes: each object takes the smallest that keeps its detail; sizes do not affect each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alterbute.backends import Array, Arrays, open_backend
from alterbute.bundle import Bundle, Manifest, open_bundle, parse_manifest
from alterbute.bundle.typed_json import dump
from alterbute.denoise.lane import Job, Lane
from alterbute.editor import Editor
from alterbute.errors import BundleError, InputError
from alterbute.images import Box, choose_resolution
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.test_lane import make_job, with_all_step_inputs
from tests.support.backends import FakeBackend
from tests.support.bundles import stub_manifest

SIDES = (32, 64)


@pytest.fixture
def two_sizes(tiny_bundle: Path) -> Bundle:
    """The tiny bundle, whose graphs have free sizes, with a second window size in its manifest."""
    bundle = open_bundle(tiny_bundle)
    return replace(bundle, manifest=replace(bundle.manifest, resolutions=SIDES))


def draw_object(side: int, photo_side: int = 160) -> tuple[Array, Array]:
    """Draw a photo [H,W,3] with a square object, and the object's mask [H,W]."""
    pixels = np.random.default_rng(1).integers(0, 256, (photo_side, photo_side, 3), np.uint8)
    mask = np.zeros((photo_side, photo_side), np.uint8)
    start = (photo_side - side) // 2
    mask[start : start + side, start : start + side] = 255
    pixels[mask > 0] //= 3
    return pixels, mask


@given(st.integers(1, 8192), st.sets(st.integers(1, 128), min_size=1, max_size=4))
def test_the_smallest_size_that_keeps_the_detail_is_chosen_else_the_largest(side: int, eighths: set[int]) -> None:
    sides = tuple(sorted(8 * eighth for eighth in eighths))
    chosen = choose_resolution(Box(top=0, left=0, bottom=side, right=side), sides)
    fitting = [window_side for window_side in sides if side / window_side <= 1.25]
    assert chosen == (min(fitting) if fitting else max(sides))


def test_an_edit_takes_the_size_that_its_object_needs(two_sizes: Bundle) -> None:
    with Editor.open(two_sizes) as editor:
        for side, expected in ((10, 32), (28, 32), (30, 64), (90, 64)):
            subject = editor.prepare(*draw_object(side))
            assert subject.windows[0].images.pixels.shape == (expected, expected, 3), side
            result = subject.edit("color: red", steps=2, seed=3)
            assert np.array_equal(np.asarray(result.image)[result.alpha == 0], subject.photo.pixels[result.alpha == 0])


def test_the_caller_may_choose_a_size_of_the_bundle_and_no_other(two_sizes: Bundle) -> None:
    photo, mask = draw_object(20)
    with Editor.open(two_sizes) as editor:
        small, large = (editor.edit(photo, mask, "color: red", seed=3, steps=2, resolution=side) for side in SIDES)
        assert not np.array_equal(np.asarray(small.image), np.asarray(large.image))
        chosen = editor.edit(photo, mask, "color: red", seed=3, steps=2)
        assert np.array_equal(np.asarray(chosen.image), np.asarray(small.image))
        with pytest.raises(InputError, match=r"resolution is 48.*32, 64"):
            editor.prepare(photo, mask, resolution=48)


def test_an_edit_at_one_size_has_the_bytes_of_a_bundle_with_that_size_only(
    tiny_bundle: Path, two_sizes: Bundle
) -> None:
    photo, mask = draw_object(20)
    own = two_sizes.manifest.resolution
    with Editor.open(tiny_bundle) as single, Editor.open(two_sizes) as several:
        expected = single.edit(photo, mask, "color: red", seed=5, steps=2)
        result = several.edit(photo, mask, "color: red", seed=5, steps=2, resolution=own)
    assert np.array_equal(np.asarray(result.image), np.asarray(expected.image))


def test_mixed_sizes_share_a_lane_and_never_a_launch(tmp_path: Path) -> None:
    stub = with_all_step_inputs(stub_manifest(tmp_path))
    manifest = replace(stub, resolutions=(stub.resolution, 2 * stub.resolution))
    small, large = make_jobs(manifest, (0, 2)), make_jobs(with_doubled_window(manifest), (1, 4))
    backend = SizedBackend()
    results = list(Lane(backend, manifest, slots=4).run([small[0], large[0], small[1], large[1]]))
    assert {result.job for result in results} == {*small, *large}
    assert backend.sizes == {16, 32}


def test_other_images_in_the_lane_change_no_bit_whatever_their_size(two_sizes: Bundle) -> None:
    manifest = two_sizes.manifest
    lane = Lane(open_backend("onnxruntime", two_sizes, threads=1), manifest, slots=4)
    jobs = [*make_jobs(manifest, (0, 2)), *make_jobs(with_doubled_window(manifest), (1, 4))]
    alone = {job: next(iter(lane.run([job]))).latent for job in jobs}
    for order in ([0, 1, 2, 3], [3, 0, 2, 1], [2, 1], [0, 3]):
        for result in lane.run([jobs[number] for number in order]):
            assert np.array_equal(result.latent, alone[result.job]), order


@pytest.mark.parametrize("sides", [[64], [64, 32], [32, 32], [30, 64], [0, 64]])
def test_invalid_sizes_are_refused(tmp_path: Path, sides: list[int]) -> None:
    manifest = replace(stub_manifest(tmp_path), resolution=32, resolutions=tuple(sides))
    with pytest.raises(BundleError, match="`resolutions` is"):
        parse_manifest(dump(manifest).encode())


def test_an_identity_latent_allows_one_size_only(tmp_path: Path) -> None:
    stub = stub_manifest(tmp_path)
    assert stub.identity is not None
    latent = replace(stub.identity, kind="latent", shape=(4, 8, 8))
    manifest = replace(stub, identity=latent, resolutions=(stub.resolution, 2 * stub.resolution))
    with pytest.raises(BundleError, match="the identity is a latent of that size"):
        parse_manifest(dump(manifest).encode())


class SizedBackend(FakeBackend):
    """Records the sizes of the latents of every launch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        self.sizes.add(inputs["state"].shape[-1])
        return super().run(graph, inputs, outputs)


def with_doubled_window(manifest: Manifest) -> Manifest:
    """The manifest with a window of twice the side."""
    return replace(manifest, resolution=2 * manifest.resolution)


def make_jobs(manifest: Manifest, numbers: tuple[int, ...]) -> list[Job]:
    return [make_job(manifest, number) for number in numbers]
