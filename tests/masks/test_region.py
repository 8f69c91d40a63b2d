"""What may change: precise, box and soft masks, and what is protected."""

from __future__ import annotations

import numpy as np
import pytest
from alterbute.errors import InputError
from alterbute.images import Photo, load_region
from alterbute.images.photo import Bytes

PHOTO = Photo(pixels=np.zeros((64, 80, 3), np.uint8))


def disc() -> Bytes:
    ys, xs = np.mgrid[:64, :80]
    return np.where((ys - 30) ** 2 + (xs - 40) ** 2 < 15**2, np.uint8(255), np.uint8(0))


def test_a_precise_mask_is_the_object_and_what_changes() -> None:
    region = load_region(disc(), PHOTO)
    assert np.array_equal(region.object, disc())
    assert np.array_equal(region.edit, disc())
    assert not region.protect.any() and not region.is_soft


def test_a_box_mask_changes_the_box_and_keeps_the_object_for_the_identity() -> None:
    region = load_region(disc(), PHOTO, kind="box")
    assert np.array_equal(region.object, disc())
    ys, xs = np.nonzero(disc())
    assert (region.edit[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] == 255).all()
    assert region.edit.sum() == 255 * (np.ptp(ys) + 1) * (np.ptp(xs) + 1)


def test_a_soft_mask_keeps_its_levels_and_its_object_is_the_marked_half() -> None:
    levels = np.tile(np.linspace(0, 255, 80).astype(np.uint8), (64, 1))
    region = load_region(levels, PHOTO, kind="soft")
    assert region.is_soft
    assert np.array_equal(region.edit, np.where(levels < 8, 0, levels)), "levels of almost nothing are nothing"
    assert np.array_equal(region.object > 0, levels >= 128)


@pytest.mark.parametrize("kind", ["precise", "box", "soft"])
def test_what_is_protected_is_cut_out_of_object_and_region(kind: str) -> None:
    protect = np.zeros((64, 80), np.uint8)
    protect[:, 40:] = 255
    region = load_region(disc(), PHOTO, kind=kind, protect=protect)  # type: ignore[arg-type]
    assert not region.object[:, 40:].any() and region.object.any()
    assert not region.edit[:, 40:].any() and region.edit.any()


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"kind": "fuzzy"}, "mask_kind", "one of precise, box, soft"),
        ({"dilate": 4}, "dilate", "an odd number"),
        ({"dilate": 0}, "dilate", "an odd number"),
        ({"dilate": 65}, "dilate", "an odd number"),
        ({"protect": np.full((64, 80), 255, np.uint8)}, "protect", "covers the whole object"),
        ({"protect": np.full((64, 64), 255, np.uint8)}, "protect", "64x64"),
    ],
)
def test_a_region_that_cannot_be_used_is_refused_by_name(options: dict[str, object], param: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as fault:
        load_region(disc(), PHOTO, **options)  # type: ignore[arg-type]
    assert fault.value.param == param
