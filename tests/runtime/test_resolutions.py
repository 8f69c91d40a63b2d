"""A bundle with several window sizes edits each object at the smallest that keeps its detail, and no size sees another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alterbute.backends import Array, Arrays, open_backend
from alterbute.bundle import Bundle, Manifest, open_bundle
from alterbute.bundle.manifest import parse_manifest
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


def object_of(side: int, photo_side: int = 160) -> tuple[Array, Array]:
    """A photo and the mask of a square object."""
    pixels = np.random.default_rng(1).integers(0, 256, (photo_side, photo_side, 3), np.uint8)
    mask = np.zeros((photo_side, photo_side), np.uint8)
    start = (photo_side - side) // 2
    mask[start : start + side, start : start + side] = 255
    pixels[mask > 0] //= 3
    return pixels, mask


@given(st.integers(1, 8192), st.sets(st.integers(1, 128), min_size=1, max_size=4))
def test_the_smallest_size_that_is_not_enlarged_too_much_is_taken_else_the_largest(
    side: int, eighths: set[int]
) -> None:
    sides = tuple(sorted(8 * eighth for eighth in eighths))
    chosen = choose_resolution(Box(top=0, left=0, bottom=side, right=side), sides)
    fitting = [known for known in sides if side / known <= 1.25]
    assert chosen == (min(fitting) if fitting else max(sides))


def test_an_edit_takes_the_size_that_its_object_needs(two_sizes: Bundle) -> None:
    with Editor.open(two_sizes) as editor:
        for side, expected in ((10, 32), (28, 32), (30, 64), (90, 64)):
            subject = editor.prepare(*object_of(side))
            assert subject.window.pixels.shape == (expected, expected, 3), side
            result = subject.edit("color: red", steps=2, seed=3)
            assert np.array_equal(np.asarray(result.image)[result.alpha == 0], subject.photo.pixels[result.alpha == 0])


def test_the_caller_may_ask_for_a_size_of_the_bundles_and_for_no_other(two_sizes: Bundle) -> None:
    photo, mask = object_of(20)
    with Editor.open(two_sizes) as editor:
        small, large = (editor.edit(photo, mask, "color: red", seed=3, steps=2, resolution=side) for side in SIDES)
        assert not np.array_equal(np.asarray(small.image), np.asarray(large.image))
        chosen = editor.edit(photo, mask, "color: red", seed=3, steps=2)
        assert np.array_equal(np.asarray(chosen.image), np.asarray(small.image))
        with pytest.raises(InputError, match=r"resolution is 48.*32, 64"):
            editor.prepare(photo, mask, resolution=48)


def test_the_bundles_own_size_gives_the_bytes_that_it_gave_alone(tiny_bundle: Path, two_sizes: Bundle) -> None:
    photo, mask = object_of(20)
    own = two_sizes.manifest.resolution
    with Editor.open(tiny_bundle) as single, Editor.open(two_sizes) as several:
        wanted = single.edit(photo, mask, "color: red", seed=5, steps=2)
        found = several.edit(photo, mask, "color: red", seed=5, steps=2, resolution=own)
    assert np.array_equal(np.asarray(found.image), np.asarray(wanted.image))


def test_mixed_sizes_share_a_lane_and_never_a_launch(tmp_path: Path) -> None:
    meta = with_all_step_inputs(stub_manifest(tmp_path))
    manifest = replace(meta, resolutions=(meta.resolution, 2 * meta.resolution))
    small, large = jobs_of(manifest, (0, 2)), jobs_of(double(manifest), (1, 4))
    backend = SizedBackend()
    finished = list(Lane(backend, manifest, slots=4).run([small[0], large[0], small[1], large[1]]))
    assert {done.job for done in finished} == {*small, *large}
    assert backend.sizes == {16, 32}


def test_who_shares_the_lane_changes_no_bit_whatever_its_size(two_sizes: Bundle) -> None:
    manifest = two_sizes.manifest
    lane = Lane(open_backend("onnxruntime", two_sizes, threads=1), manifest, slots=4)
    jobs = [*jobs_of(manifest, (0, 2)), *jobs_of(double(manifest), (1, 4))]
    alone = {job: next(iter(lane.run([job]))).latent for job in jobs}
    for order in ([0, 1, 2, 3], [3, 0, 2, 1], [2, 1], [0, 3]):
        for done in lane.run([jobs[number] for number in order]):
            assert np.array_equal(done.latent, alone[done.job]), order


@pytest.mark.parametrize("sides", [[64], [64, 32], [32, 32], [30, 64], [0, 64]])
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, sides: list[int]) -> None:
    manifest = replace(stub_manifest(tmp_path), resolution=32, resolutions=tuple(sides))
    with pytest.raises(BundleError, match="`resolutions` is"):
        parse_manifest(dump(manifest).encode())


def test_an_identity_of_the_windows_size_allows_one_size_only(tmp_path: Path) -> None:
    meta = stub_manifest(tmp_path)
    assert meta.identity is not None
    latent = replace(meta.identity, kind="latent", shape=(4, 8, 8))
    manifest = replace(meta, identity=latent, resolutions=(meta.resolution, 2 * meta.resolution))
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


def double(manifest: Manifest) -> Manifest:
    """The same with twice the window."""
    return replace(manifest, resolution=2 * manifest.resolution)


def jobs_of(manifest: Manifest, numbers: tuple[int, ...]) -> list[Job]:
    return [make_job(manifest, number) for number in numbers]
