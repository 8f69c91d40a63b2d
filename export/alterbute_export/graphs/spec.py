"""Specification of one graph to export: its torch module, inputs and outputs, and random inputs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
from alterbute.bundle import TensorSpec
from numpy.typing import NDArray
from torch import nn

Array: TypeAlias = NDArray[Any]
Sizes: TypeAlias = Mapping[str, int]
Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, ...], Sizes], Array]
"""Draws one input, from a generator, the input's shape, and the sizes of all free dimensions by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """One graph to export.

    Args:
        name: The graph's name in the manifest; its file is `<name>.onnx`.
        graph: The torch module to trace, or the graph in ONNX's own text form when it is written by hand.
        reference: Function that computes the expected outputs from torch tensors in the order of `inputs`, and returns a
            tensor for each output. A uint8 or uint16 picture may be returned unrounded, as f32 in the range of its levels; it
            is then compared with the input of the graph's Round node.
        inputs: Inputs in the order of the module's arguments.
        outputs: Outputs in the order of the module's results.
        trace_sizes: Sizes of the free dimensions for tracing, each of another value, because torch.export takes
            dimensions of one value for equal.
        check_sizes: Sizes of the free dimensions for the parity runs: at least two sets, with different batch sizes.
        draw: Functions for inputs that are not drawn by their dtype's default, by input.
        leeway: Factor on the limit of parity, for graphs that run on more pixels than CHECK_SIDE squared, or solve equations.
    """

    name: str
    graph: nn.Module | str
    reference: Callable[..., Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    trace_sizes: Sizes
    check_sizes: tuple[Sizes, ...]
    draw: Mapping[str, Draw] = field(default_factory=dict)
    leeway: float = 1.0


CHECK_SIDE: Final = 192
"""Largest side, in pixels, of the pictures on which graphs are compared with torch.

fp32 sums over flat areas are biased, the more the larger the area, in torch and ONNX Runtime alike: for SD 1.5's encoder on
512 pixels torch differs from float64 by 6e-5, and ONNX Runtime by 2e-5. Such a difference is no fault of the graph."""

SpecMaker: TypeAlias = Callable[[], GraphSpec]
"""Makes the spec of one graph and loads its models: a published checkpoint's models exceed memory if loaded at once."""


def drop_models(spec: GraphSpec) -> GraphSpec:
    """A copy of the spec without `graph` and `reference`, so that its models can be freed."""
    return replace(spec, graph="", reference=tuple)


def edge(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    """One input or output of a graph.

    Args:
        name: Its name in the graph.
        dtype: numpy's name of its type.
        shape: Its dimensions; a string is the name of a free dimension.
    """
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def draw_inputs(spec: GraphSpec, sizes: Sizes, seed: int) -> dict[str, Array]:
    """Random inputs of a graph, by name: drawn by the spec's `draw`, else normal noise for f32, and all levels for uint8 and uint16.

    Args:
        spec: The graph.
        sizes: Sizes of the free dimensions, by name.
        seed: Seed of the generator; the same arguments give the same inputs.
    """
    generator = np.random.default_rng(seed)
    inputs = {}
    for tensor in spec.inputs:
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in tensor.shape)
        draw = spec.draw.get(tensor.name) or _DRAWS[tensor.dtype]
        inputs[tensor.name] = np.ascontiguousarray(draw(generator, shape, sizes), dtype=tensor.dtype)
    return inputs


def draw_mask(low: float = 0.5, high: float = 0.75) -> Draw:
    """Draw uint8 masks `[...,H,W]`: a rectangle of 255 with sides of `low` to `high` times the picture's, else 0."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        mask = np.zeros(shape, np.uint8)
        for picture in mask.reshape(-1, *shape[-2:]):
            height, width = (round(float(generator.uniform(low, high)) * side) for side in picture.shape)
            top, left = (
                int(generator.integers(0, max(side - part, 1)))
                for side, part in zip(picture.shape, (height, width), strict=True)
            )
            picture[top : top + height, left : left + width] = 255
        return mask

    return draw


def draw_speckles() -> Draw:
    """Draw masks `[...,H,W]` in which every pixel is 0 or 255, independently of the others."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        return 255 * generator.integers(0, 2, shape)

    return draw


def draw_index(limit: int | str) -> Draw:
    """Draw integers in [0, limit); a string is the name of a free dimension, whose size is the limit."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        return generator.integers(0, sizes[limit] if isinstance(limit, str) else limit, shape)

    return draw


def draw_uniform(low: float, high: float) -> Draw:
    """Draw numbers uniformly from [low, high)."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        return generator.uniform(low, high, shape)

    return draw


def _noise(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    return generator.standard_normal(shape)


def _bytes(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    return generator.integers(0, 256, shape)


def _words(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    return generator.integers(0, 65536, shape)


_DRAWS: dict[str, Draw] = {"float32": _noise, "uint8": _bytes, "uint16": _words}
