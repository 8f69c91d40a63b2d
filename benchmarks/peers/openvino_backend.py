"""OpenVINO on the CPU as a backend of the editor, for benchmarks only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from alterbute.backends import Array, Arrays
from alterbute.backends.base import copy_outputs
from alterbute.backends.onnxruntime import OnnxRuntimeBackend
from alterbute.bundle import Bundle

HOST_GRAPHS: Final = ("window", "paste", "paste16")
"""The image graphs, which every backend runs in ONNX Runtime."""

Run = Callable[[Arrays], dict[str, Array]]


def compile_graph(file: Path, threads: int, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Run:
    """Compile a graph in fp32; returns a function from inputs to outputs by name, which is not thread-safe.

    Args:
        file: ONNX file, with its weights in the same folder.
        threads: CPU threads.
        shapes: Shape of every input by name to compile for; None keeps free dimensions.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    if shapes is not None:
        model.reshape({name: list(shape) for name, shape in shapes.items()})
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(inputs: Arrays) -> dict[str, Array]:
        outputs = request.infer(dict(inputs), share_inputs=True)
        return {port.get_any_name(): array for port, array in outputs.items()}

    return run


class OpenVinoBackend:
    """A backend that runs a bundle's decomposed graphs in OpenVINO, compiled for the shapes of the latest call.

    A call with other shapes compiles the graph again, so benchmarks call each graph once before they time it.

    Args:
        bundle: The bundle.
        threads: CPU threads.
    """

    min_slots: int = 1
    min_rows: int = 1

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._bundle, self._threads = bundle, threads
        self._host = OnnxRuntimeBackend(bundle, threads=threads, graphs=HOST_GRAPHS)
        self.precisions = dict(self._host.precisions)
        self._compiled: dict[str, tuple[Any, Run]] = {}

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph once in OpenVINO, compiled for the shapes of this call.

        Args:
            graph: Name of the graph.
            inputs: Every input of the graph by name.
            outputs: Arrays to write results into, by output name.
        """
        if graph in HOST_GRAPHS:
            return self._host.run(graph, inputs, outputs)
        shapes = {name: array.shape for name, array in inputs.items()}
        if graph not in self._compiled or self._compiled[graph][0] != shapes:
            self._compiled.pop(graph, None)
            self._compiled[graph] = shapes, compile_graph(self._bundle.path / f"{graph}.onnx", self._threads, shapes)
        return copy_outputs(self._compiled[graph][1](inputs), outputs)

    def close(self) -> None:
        """Release the compiled graphs."""
        self._compiled.clear()
        self._host.close()
