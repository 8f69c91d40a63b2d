"""Optimization profiles: input shapes of a graph, from a recipe's buckets and the graph's free dimensions."""

from __future__ import annotations

from collections.abc import Mapping

from alterbute.bundle import Manifest, ShapeRange, TensorSpec

from alterbute_export.engine.recipe import Bucket, Recipe
from alterbute_export.errors import BuildError

Sizes = Mapping[str, int]
"""Size of every free dimension, by its name."""


def make_profiles(manifest: Manifest, graph: str, recipe: Recipe) -> tuple[dict[str, ShapeRange], ...]:
    """The profiles of one graph: one per bucket and resolution for the step, one per resolution for the others.

    Args:
        manifest: The bundle's manifest.
        graph: The graph's name.
        recipe: The recipe, with its resolutions and buckets.

    Returns:
        Smallest, best and largest shape of every input, by input; equal profiles once.

    Raises:
        BuildError: a resolution is no multiple of the latent factor, or a free dimension has an unknown name.
    """
    profiles: list[dict[str, ShapeRange]] = []
    inputs = manifest.graphs[graph].inputs
    for side in recipe.resolutions or manifest.window_sides:
        for low, best, high in _ranges(manifest, graph, recipe, side):
            profile = {tensor.name: _shape_range(graph, tensor, low, best, high) for tensor in inputs}
            if profile not in profiles:
                profiles.append(profile)
    return tuple(profiles)


def _ranges(manifest: Manifest, graph: str, recipe: Recipe, side: int) -> list[tuple[Sizes, Sizes, Sizes]]:
    if side % manifest.latent_factor:
        raise BuildError(
            f"the recipe's resolution is {side}",
            f"a multiple of {manifest.latent_factor}",
            "change the recipe's resolutions",
        )
    latent = side // manifest.latent_factor
    fixed = {"S": side, "h": latent, "w": latent, "T": manifest.text.tokens}
    if graph == "step":
        return [_bucket_range(bucket, fixed) for bucket in recipe.buckets]
    # Pictures and prompts are mostly encoded one at a time, so that is the shape to optimize for.
    smallest, largest = ({"B": count, "M": count, "N": count, **fixed} for count in (1, recipe.images))
    return [(smallest, smallest, largest)]


def _bucket_range(bucket: Bucket, fixed: Sizes) -> tuple[Sizes, Sizes, Sizes]:
    low = {"B": bucket.min_slots or bucket.slots, "N": bucket.min_rows or bucket.rows, **fixed}
    high = {"B": bucket.slots, "N": bucket.rows, **fixed}
    return low, high, high


def _shape_range(graph: str, tensor: TensorSpec, low: Sizes, best: Sizes, high: Sizes) -> ShapeRange:
    unknown = [size for size in tensor.shape if isinstance(size, str) and size not in best]
    if unknown:
        raise BuildError(
            f"the input {tensor.name!r} of graph {graph!r} has the free dimension {unknown[0]!r}",
            f"one of {', '.join(sorted(best))}",
            "export the bundle again with this version",
        )
    shapes = (
        tuple(sizes[size] if isinstance(size, str) else size for size in tensor.shape) for sizes in (low, best, high)
    )
    return ShapeRange(**dict(zip(("min", "opt", "max"), shapes, strict=True)))
