"""Training tuples for the relaxed objective, rendered with exact ground truth.

A tuple has the target photo window, its mask, a reference of the same identity with another look (in the same view, or
in another view that is aligned to the mask's box), and the attributes that the prompt names. Reference and target share
the attributes that the prompt does not name, so that the model learns to take those from the reference.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.rendering import render
from demo.rendering.render import ATTRIBUTES, Light, Look, ObjectIdentity, View
from demo.rendering.shapes import Floats

SIZE = 64
NAMES = tuple(ATTRIBUTES)  # color, material, texture: the column order of `attributes` and `named`
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shard:
    """Training tuples as uint8 arrays.

    Args:
        photo: [N,64,64,3], the target.
        mask: [N,64,64], 0 or 255.
        reference: [N,64,64,3], the object with another look.
        reference_mask: [N,64,64], 0 or 255.
        attributes: [N,3], index of the value of each attribute of the target.
        named: [N,3], 1 where the prompt names the attribute.
        same_view: [N], 1 where reference and target have the same view.
    """

    photo: Bytes
    mask: Bytes
    reference: Bytes
    reference_mask: Bytes
    attributes: Bytes
    named: Bytes
    same_view: Bytes

    def save(self, path: Path) -> None:
        """Write the arrays to an .npz file, by way of a temporary file."""
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **{name: getattr(self, name) for name in self.__slots__})
        partial.rename(path)


def load_shards(folder: Path, limit: int | None = None) -> Shard:
    """Concatenate the shards of a folder, or the first `limit` of them by name."""
    files = sorted(p for p in folder.glob("*.npz") if ".partial" not in p.name)[:limit]
    parts = [dict(np.load(p)) for p in files]
    return Shard(*(np.concatenate([part[name] for part in parts]) for name in Shard.__slots__))


def dilate(mask: Bytes, kernel: int) -> Bytes:
    """Dilate a mask [h,w] 0/255 by a square of `kernel` pixels, as the `window` graph does."""
    r = kernel // 2
    padded = np.pad(mask, r)
    dilated: Bytes = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel)).max((-1, -2)).astype(np.uint8)
    return dilated


def threshold_coverage(coverage: Floats) -> Bytes:
    """Mask 0/255 of the pixels that the object covers by a quarter or more."""
    return np.where(coverage >= 0.25, 255, 0).astype(np.uint8)


def fill_box(mask: Bytes, pad: int) -> Bytes:
    """Mask of the bounding box of a mask [h,w], extended by `pad` pixels on each side."""
    ys, xs = np.nonzero(mask)
    out = np.zeros_like(mask)
    out[max(ys.min() - pad, 0) : ys.max() + pad + 1, max(xs.min() - pad, 0) : xs.max() + pad + 1] = 255
    return out


def change_look(rng: np.random.Generator, look: Look, named: NDArray[np.bool_]) -> Look:
    """A look in which the named attributes are drawn anew and the others are unchanged.

    Args:
        rng: Random numbers.
        look: The look to change.
        named: [attributes] bool, the attributes to draw.
    """
    drawn = asdict(render.sample_look(rng))
    return Look(**{name: drawn[name] if named[i] else getattr(look, name) for i, name in enumerate(NAMES)})


def draw_named_attributes(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which attributes [3] bool the prompt names; colour, the most common edit, is the most frequent."""
    named = rng.random(3) < (0.6, 0.5, 0.35)
    return named if named.any() or rng.random() < 0.5 else np.array([True, False, False])


def make_shard(seed: int, geometries: int, per_geometry: int = 6) -> Shard:
    """Render `geometries * per_geometry` tuples; the last of each geometry has a reference in another view.

    Args:
        seed: Seed of the shard.
        geometries: Number of pairs of an identity and a view.
        per_geometry: Number of tuples of each pair.
    """
    rng = np.random.default_rng(seed)
    columns: list[tuple[Bytes, ...]] = []
    for _ in range(geometries):
        identity = render.sample_identity(rng)
        view = render.sample_view(rng, identity)
        g = render.trace(identity, view, 2 * SIZE)
        for i in range(per_geometry):
            columns.append(_draw_tuple(rng, identity, view, g, same_view=i < per_geometry - 1))
    return Shard(*(np.stack(column) for column in zip(*columns, strict=True)))


def _draw_tuple(
    rng: np.random.Generator, identity: ObjectIdentity, view: View, g: render.GBuffer, same_view: bool
) -> tuple[Bytes, ...]:
    """One entry of every array of `Shard`."""
    look, named, light = render.sample_look(rng), draw_named_attributes(rng), render.sample_light(rng)
    picture, coverage = render.compose(render.shade(identity, look, light, g), g, render.backdrop(rng, g.hit.shape), 2)
    reference_light: Light = light if rng.random() < 0.8 else render.sample_light(rng)
    reference_g, reference_backdrop = g, np.zeros((*g.hit.shape, 3), np.float32)
    if not same_view:
        other_view = replace(view, yaw=float(rng.uniform(-0.75, 0.75)), pitch=float(rng.uniform(0.15, 0.6)))
        reference_g = render.trace(identity, render.align(identity, other_view, view), 2 * SIZE)
    colour = render.shade(identity, change_look(rng, look, named), reference_light, reference_g)
    reference, reference_coverage = render.compose(colour, reference_g, reference_backdrop, 2)
    mask, reference_mask = threshold_coverage(coverage), threshold_coverage(reference_coverage)
    photo, canvas = render.to_uint8(picture), render.to_uint8(reference)
    edge = (reference_coverage > 0) & (reference_coverage < 1)
    if same_view:  # the runtime's default reference is the photo itself, whose edge pixels contain background
        canvas = np.where(
            edge[..., None],
            render.to_uint8(reference + (1 - reference_coverage[..., None]) * _mean_background(picture, coverage)),
            canvas,
        )
    else:
        canvas = np.where(
            edge[..., None], render.to_uint8(reference / np.maximum(reference_coverage[..., None], 0.25)), canvas
        )
    mask = dilate(mask, 3)
    if same_view and rng.random() < 0.12:  # coarse box masks, as users draw them
        mask = fill_box(mask, int(rng.integers(0, 3)))
    attributes = np.array([ATTRIBUTES[name].index(getattr(look, name)) for name in NAMES], np.uint8)
    return photo, mask, canvas, reference_mask, attributes, named.astype(np.uint8), np.asarray(same_view, np.uint8)


def _mean_background(picture: Floats, coverage: Floats) -> Floats:
    """Mean colour outside the object, broadcast to [h,w,3], as the background of edge pixels."""
    return np.broadcast_to(picture[coverage == 0].mean(0), picture.shape).astype(np.float32)


def build(folder: Path, seeds: range, geometries: int = 64) -> None:
    """Render the shards that do not exist yet. A shard is determined by its seed, so the work can be resumed.

    Args:
        folder: Folder of the shards.
        seeds: Seeds of the shards.
        geometries: Identities with a view per shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f"{seed:05d}.npz"
        if not path.exists():
            start = time.perf_counter()
            make_shard(seed, geometries).save(path)
            print(f"shard {seed}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
