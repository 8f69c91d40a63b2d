"""Renderer, training tuples and quality measure: the assumptions behind the demo's figures."""

from __future__ import annotations

import numpy as np
import pytest

from demo.data import NAMES, change_look, draw_named_attributes, make_shard
from demo.quality import KINDS, draw_cases, find_nearest, judge
from demo.rendering import render
from demo.rendering.render import ATTRIBUTES, COLORS
from demo.rendering.shapes import FAMILIES


@pytest.fixture(scope="module")
def scene() -> tuple[render.ObjectIdentity, render.GBuffer, render.Light]:
    rng = np.random.default_rng(5)
    identity = render.sample_identity(rng, "mug")
    return identity, render.trace(identity, render.sample_view(rng, identity), 96), render.sample_light(rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_object_of_every_family_lies_inside_its_window(family: str) -> None:
    rng = np.random.default_rng(1)
    identity = render.sample_identity(rng, family)
    hit = render.trace(identity, render.sample_view(rng, identity), 64).hit
    assert 0.05 < hit.mean() < 0.8
    assert not (hit[0].any() or hit[-1].any() or hit[:, 0].any() or hit[:, -1].any())


def test_looks_differ_on_the_object_only(
    scene: tuple[render.ObjectIdentity, render.GBuffer, render.Light],
) -> None:
    identity, g, light = scene
    background = np.full((*g.hit.shape, 3), 0.5, np.float32)
    red, blue = (
        render.compose(
            render.shade(identity, render.Look(color=color, material="matte", texture="plain"), light, g),
            g,
            background,
            2,
        )
        for color in ("red", "blue")
    )
    (red_picture, coverage), (blue_picture, _) = red, blue
    differs = (red_picture != blue_picture).any(-1)
    assert (differs <= (coverage > 0)).all()
    assert differs.sum() > 0.5 * (coverage > 0.5).sum()


def test_every_color_of_every_material_is_nearest_to_itself(
    scene: tuple[render.ObjectIdentity, render.GBuffer, render.Light],
) -> None:
    identity, g, light = scene
    for material in render.MATERIALS:
        renderings = {
            color: render.to_uint8(
                render.shade(identity, render.Look(color=color, material=material, texture="plain"), light, g)
            )
            for color in COLORS
        }
        assert all(find_nearest(picture, g.hit, renderings) == color for color, picture in renderings.items())


def test_attributes_that_the_prompt_does_not_name_are_shared_with_the_reference() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        look, named = render.sample_look(rng), draw_named_attributes(rng)
        reference = change_look(rng, look, named)
        for i, name in enumerate(NAMES):
            assert named[i] or getattr(look, name) == getattr(reference, name)


def test_a_shard_is_determined_by_its_seed() -> None:
    shard, repeated = make_shard(3, 1, 2), make_shard(3, 1, 2)
    assert all(np.array_equal(getattr(shard, name), getattr(repeated, name)) for name in shard.__slots__)
    assert shard.same_view.tolist() == [1, 0]
    assert (shard.attributes < [len(ATTRIBUTES[name]) for name in NAMES]).all()


def test_the_measure_accepts_the_truth_and_rejects_the_unedited_photo() -> None:
    num_judged = 0
    for case in draw_cases(1):
        truth, photo = case.draw(case.after), case.draw(case.before)
        assert all(judge(case, truth).values())
        if case.named:
            verdict = judge(case, photo)
            assert not any(verdict[name] for name in case.named)
            num_judged += 1
    assert num_judged == sum(bool(named) for named in KINDS.values())
