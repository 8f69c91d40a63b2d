"""The renderer and the tuples keep the promises that the demo's figures stand on."""

from __future__ import annotations

import numpy as np
import pytest

from demo.data import NAMES, draw_named, make_shard, other_look
from demo.quality import KINDS, cases, judge, nearest
from demo.rendering import render
from demo.rendering.render import ATTRIBUTES, COLORS
from demo.rendering.shapes import FAMILIES


@pytest.fixture(scope="module")
def scene() -> tuple[render.ObjectIdentity, render.GBuffer, render.Light]:
    rng = np.random.default_rng(5)
    identity = render.sample_identity(rng, "mug")
    return identity, render.trace(identity, render.sample_view(rng, identity), 96), render.sample_light(rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shows_an_object_inside_its_window(family: str) -> None:
    rng = np.random.default_rng(1)
    identity = render.sample_identity(rng, family)
    hit = render.trace(identity, render.sample_view(rng, identity), 64).hit
    assert 0.05 < hit.mean() < 0.8
    assert not (hit[0].any() or hit[-1].any() or hit[:, 0].any() or hit[:, -1].any())


def test_looks_differ_on_the_object_and_nowhere_else(
    scene: tuple[render.ObjectIdentity, render.GBuffer, render.Light],
) -> None:
    identity, g, light = scene
    background = np.full((*g.hit.shape, 3), 0.5, np.float32)
    one, two = (
        render.compose(
            render.shade(identity, render.Look(color=color, material="matte", texture="plain"), light, g),
            g,
            background,
            2,
        )
        for color in ("red", "blue")
    )
    differs = (one[0] != two[0]).any(-1)
    assert (differs <= (one[1] > 0)).all()
    assert differs.sum() > 0.5 * (one[1] > 0.5).sum()


def test_every_color_of_every_material_is_nearest_to_itself(
    scene: tuple[render.ObjectIdentity, render.GBuffer, render.Light],
) -> None:
    identity, g, light = scene
    for material in render.MATERIALS:
        drawn = {
            c: render.to_uint8(
                render.shade(identity, render.Look(color=c, material=material, texture="plain"), light, g)
            )
            for c in COLORS
        }
        assert all(nearest(picture, g.hit, drawn) == color for color, picture in drawn.items())


def test_what_the_text_does_not_name_is_shared_with_the_reference() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        look, named = render.sample_look(rng), draw_named(rng)
        reference = other_look(rng, look, named)
        for i, name in enumerate(NAMES):
            assert named[i] or getattr(look, name) == getattr(reference, name)


def test_a_shard_is_its_seed() -> None:
    one, two = make_shard(3, 1, 2), make_shard(3, 1, 2)
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in one.__slots__)
    assert one.same_view.tolist() == [1, 0]
    assert (one.attributes < [len(ATTRIBUTES[name]) for name in NAMES]).all()


def test_the_measure_accepts_the_truth_and_refuses_the_unedited_photo() -> None:
    seen = 0
    for case in cases(1):
        truth, photo = case.draw(case.after), case.draw(case.before)
        assert all(judge(case, truth).values())
        if case.named:
            verdict = judge(case, photo)
            assert not any(verdict[name] for name in case.named)
            seen += 1
    assert seen == sum(bool(named) for named in KINDS.values())
