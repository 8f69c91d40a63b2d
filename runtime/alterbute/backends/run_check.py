"""Outputs of a run are held against the manifest before anything reads them: a graph file may state other shapes than it makes."""

from __future__ import annotations

import numpy as np

from alterbute.backends.base import Arrays
from alterbute.bundle import Manifest
from alterbute.errors import BundleError


def check_outputs(graph: str, manifest: Manifest, inputs: Arrays, outputs: Arrays) -> None:
    """Refuse outputs of another name, type or shape than the manifest and the inputs of this run determine.

    Args:
        graph: Name of the graph.
        manifest: The bundle's manifest.
        inputs: The run's inputs, as the manifest lists them.
        outputs: Every output of the run, by name.

    Raises:
        BundleError: an output is missing, or has another type or shape.
    """
    entry = manifest.graphs[graph]
    sizes: dict[str, int] = {}
    for edge in entry.inputs:
        sizes |= {
            axis: size for axis, size in zip(edge.shape, inputs[edge.name].shape, strict=False) if isinstance(axis, str)
        }
    sizes |= _free_sizes(graph, manifest.latent_factor, inputs)
    for edge in entry.outputs:
        array = outputs.get(edge.name)
        expected = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in edge.shape)
        if array is None or array.dtype != np.dtype(edge.dtype) or array.shape != expected:
            seen = "no such output" if array is None else f"{array.dtype} {list(array.shape)}"
            raise BundleError(
                f"the graph {graph!r} makes {edge.name!r} as {seen}",
                f"{edge.dtype} {list(expected)}, as the manifest lists it",
                "get the bundle from a source that you trust, or export it again",
            )


def _free_sizes(graph: str, factor: int, inputs: Arrays) -> dict[str, int]:
    """Sizes of the outputs' free dimensions that no input has."""
    if graph == "scene":
        cells = inputs["photo"].shape[1] // factor
        return {"h": cells, "w": cells}
    if graph == "decode":
        return {"S": inputs["latent"].shape[-1] * factor}
    if graph == "window":
        top, left, bottom, right = (int(side) for side in inputs["box"])
        height, width = (int(side) for side in inputs["size"])
        return {"SH": height, "SW": width, "BH": bottom - top, "BW": right - left}
    return {}
