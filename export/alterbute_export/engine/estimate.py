"""Dry run: the plans that a recipe would build of a bundle, and their memory, without building them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir
from alterbute.bundle import Bundle, ShapeRange, TensorSpec

from alterbute_export.engine.profiles import make_profiles
from alterbute_export.engine.recipe import Recipe
from alterbute_export.half.variants import MODEL_GRAPHS

_FLOAT_BYTES: Final = {"fp32": 4, "fp16": 2, "bf16": 2}
_EDGE_BYTES: Final = {"float32": 4, "int64": 8, "uint8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Sizes of one graph's plan, in bytes."""

    graph: str
    weights: int
    """Weights in the recipe's precision: nearly the size of the plan."""
    inputs: int
    """Inputs of the largest profile."""
    profiles: tuple[str, ...]
    """The profiles in words, such as "B 1..2..4, h 64"."""


def estimate(bundle: Bundle, recipe: Recipe) -> tuple[Estimate, ...]:
    """Estimates of every graph that the recipe builds.

    Raises:
        BuildError: the recipe does not fit the bundle.
    """
    return tuple(_estimate(bundle, recipe, graph) for graph in MODEL_GRAPHS if graph in bundle.manifest.graphs)


def device_bytes(estimates: tuple[Estimate, ...], recipe: Recipe) -> int:
    """Upper bound of the engines' memory on a device: weights, the largest inputs twice, and the workspace limit once.

    All graphs share one scratch arena, so the workspace limit does not count per graph.
    """
    workspace = recipe.builder.workspace_mib << 20 if recipe.builder else 0
    return sum(item.weights for item in estimates) + 2 * sum(item.inputs for item in estimates) + workspace


def describe(bundle: Bundle, recipe: Recipe) -> Iterator[str]:
    """The lines of the dry run's report."""
    estimates = estimate(bundle, recipe)
    yield f"recipe {recipe.name}: {recipe.product}, {recipe.precision}, for {', '.join(recipe.capabilities) or 'any machine'}"
    for item in estimates:
        yield f"{item.graph:<9} weights {item.weights / 1e6:8.1f} MB, inputs {item.inputs / 1e6:6.1f} MB, {len(item.profiles)} profile(s)"
        for profile in item.profiles:
            yield f"          {profile}"
    yield f"on a device at most about {device_bytes(estimates, recipe) / 1e6:.0f} MB, workspace cap included"


def _estimate(bundle: Bundle, recipe: Recipe, graph: str) -> Estimate:
    inputs = bundle.manifest.graphs[graph].inputs
    profiles = make_profiles(bundle.manifest, graph, recipe)
    return Estimate(
        graph=graph,
        weights=_weight_bytes(bundle.path / f"{graph}.onnx", recipe),
        inputs=max(_input_bytes(inputs, profile) for profile in profiles) if profiles else 0,
        profiles=tuple(_describe_profile(inputs, profile) for profile in profiles),
    )


def _weight_bytes(path: Path, recipe: Recipe) -> int:
    floats = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
    total = 0
    for value in ir.load(path).graph.initializers.values():
        if value.const_value is not None:
            size = value.const_value.nbytes
            total += value.const_value.size * _FLOAT_BYTES[recipe.precision] if value.dtype in floats else size
    return total


def _input_bytes(inputs: tuple[TensorSpec, ...], profile: Mapping[str, ShapeRange]) -> int:
    return sum(math.prod(profile[tensor.name].max) * _EDGE_BYTES[tensor.dtype] for tensor in inputs)


def _describe_profile(inputs: tuple[TensorSpec, ...], profile: Mapping[str, ShapeRange]) -> str:
    sizes: dict[str, str] = {}
    for tensor in inputs:
        shape = profile[tensor.name]
        for name, low, best, high in zip(tensor.shape, shape.min, shape.opt, shape.max, strict=True):
            if isinstance(name, str):
                sizes[name] = str(best) if low == high else f"{low}..{best}..{high}"
    return ", ".join(f"{name} {text}" for name, text in sizes.items())
