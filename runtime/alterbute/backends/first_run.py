"""The first run of every graph on a device, which prepares kernels for its shapes, so that no edit waits for it."""

from __future__ import annotations

import numpy as np

from alterbute.backends.base import HOST_GRAPHS, Backend
from alterbute.backends.step_state import DeviceBackend
from alterbute.bundle import Manifest, TensorSpec


def run_all_graphs(backend: Backend, manifest: Manifest) -> None:
    """Run the graphs before and after the steps once at every side of the window, on zeros.

    Nothing is run on a CPU: there the first run of a shape costs what the others cost, and graphs load in the background.

    Args:
        backend: The backend.
        manifest: The bundle's manifest.

    Raises:
        EngineError: a graph cannot be run.
    """
    if not isinstance(backend, DeviceBackend):
        return
    for name, graph in manifest.graphs.items():
        if name not in (*HOST_GRAPHS, "step"):
            shapes = {
                tuple(_shape(edge, manifest, side) for edge in graph.inputs): None for side in manifest.window_sides
            }
            for shape in shapes:
                backend.run(
                    name,
                    {edge.name: np.zeros(size, edge.dtype) for edge, size in zip(graph.inputs, shape, strict=True)},
                )


def _shape(edge: TensorSpec, manifest: Manifest, side: int) -> tuple[int, ...]:
    """Shape of an input for one picture, or one prompt, at this side of the window."""
    cells = side // manifest.latent_factor
    sizes = {"S": side, "h": cells, "w": cells, "T": manifest.text.tokens}
    return tuple(sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in edge.shape)
