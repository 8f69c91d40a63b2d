"""What the exporter needs to know of one graph: its torch module, its edges, and how to draw inputs for it."""

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
"""Makes one input from a generator, the input's shape, and the sizes of all free dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """One graph to be written.

    Args:
        name: The graph's name in the manifest; its file is `<name>.onnx`.
        graph: The torch module to trace, or the graph in ONNX's own text form when it is written by hand.
        reference: What the graph must compute: a callable over torch tensors, in the order of `inputs`, that returns
            a tensor for each output. A uint8 picture may be returned unrounded, as f32 in [0,255]: it is compared
            with what the graph feeds its Round node.
        inputs: Edges in the order of the module's arguments.
        outputs: Edges in the order of its results.
        trace_sizes: Free dimensions for tracing, each with its own value, so that none are taken for equal.
        check_sizes: Free dimensions for the parity runs: at least two sets, with different batch sizes.
        draw: How to draw inputs that are not plain noise, by name.
        leeway: Factor on the limit of the comparison, for pictures that cannot be drawn smaller; see CHECK_SIDE.
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
"""Pixels of the largest picture that a graph is compared with torch on. Sums over flat areas are biased in fp32, more so the
larger the area, which says nothing about the graph: at 512 pixels of SD 1.5's encoder torch is 6e-5 from float64 and ONNX Runtime 2e-5."""

SpecMaker: TypeAlias = Callable[[], GraphSpec]
"""Loads what one graph is made from: a published checkpoint's models do not fit into memory side by side."""


def without_models(spec: GraphSpec) -> GraphSpec:
    """The spec with its edges, sizes and draws alone, so that its models can be freed."""
    return replace(spec, graph="", reference=tuple)


def edge(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    """One input or output; a string dimension is a free one."""
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def draw_inputs(spec: GraphSpec, sizes: Sizes, seed: int) -> dict[str, Array]:
    """Random inputs of one size: noise for f32, bytes for uint8, or what the spec's own `draw` says."""
    generator = np.random.default_rng(seed)
    inputs = {}
    for tensor in spec.inputs:
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in tensor.shape)
        draw = spec.draw.get(tensor.name) or _DRAWS[tensor.dtype]
        inputs[tensor.name] = np.ascontiguousarray(draw(generator, shape, sizes), dtype=tensor.dtype)
    return inputs


def draw_mask(low: float = 0.5, high: float = 0.75) -> Draw:
    """Masks `[..., H, W]`: a rectangle of 255 whose sides are that share of the picture's, 0 elsewhere."""

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
    """Masks `[..., H, W]`: every pixel 255 or 0 for itself."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        return 255 * generator.integers(0, 2, shape)

    return draw


def draw_index(limit: int | str) -> Draw:
    """Integers in [0, limit); a string limit is the value of that free dimension."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        return generator.integers(0, sizes[limit] if isinstance(limit, str) else limit, shape)

    return draw


def draw_uniform(low: float, high: float) -> Draw:
    """Numbers in [low, high)."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
        return generator.uniform(low, high, shape)

    return draw


def _noise(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    return generator.standard_normal(shape)


def _bytes(generator: np.random.Generator, shape: tuple[int, ...], sizes: Sizes) -> Array:
    return generator.integers(0, 256, shape)


_DRAWS: dict[str, Draw] = {"float32": _noise, "uint8": _bytes}
