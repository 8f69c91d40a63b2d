"""ONNX Runtime sessions for the exporter's own checks: graphs from memory, weights mapped from a bundle's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnxruntime
from alterbute.backends import Array, Arrays
from alterbute.backends.base import copy_outputs
from alterbute.bundle import Bundle

_FOLDER: Final = "session.model_external_initializers_file_folder_path"
# Folding keeps an fp32 copy of every fp16 weight, packing a second copy in another order: faster, but three times the memory.
_NO_PACKING: Final = "session.disable_prepacking"
_NO_FOLDING: Final = ["ConstantFolding"]


def weight_files(folder: Path) -> list[Path]:
    """The external data files of a bundle."""
    return sorted(folder.glob("weights*.bin"))


def open_session(model: bytes, folder: Path, *, in_file_order: bool = False) -> Any:
    """An ONNX Runtime CPU session that needs little memory, over a graph whose weights are in `folder`.

    It computes what the runtime's sessions compute, more slowly. Unlike those it lets ONNX Runtime map the weights files itself,
    without a copy: the exporter wrote or verified them.

    Args:
        model: The serialized graph.
        folder: The folder of its external weights.
        in_file_order: Run nodes in the order that they have in the file, as far as their inputs allow. ONNX Runtime's own order
            finishes the last output first: a graph that has an output at every value would hold all values until then.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(_FOLDER, str(folder.resolve()))
    options.add_session_config_entry(_NO_PACKING, "1")
    # The arena keeps freed memory, and grows by doubling.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    if in_file_order:
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_NO_FOLDING
    )


class StreamingBackend:
    """A CPU backend (`alterbute.backends.Backend`) that keeps one graph loaded: a large bundle's graphs do not fit in memory together.

    Args:
        bundle: The bundle. Its graph files are verified when they are read; its weights are mapped as they are.
        prepare: Called with a graph's name and serialized bytes; returns the serialized graph to run in its place.
        in_file_order: Run nodes in the order of the file; see `open_session` for why that saves memory.
    """

    min_slots: int = 1
    min_rows: int = 1

    def __init__(
        self,
        bundle: Bundle,
        prepare: Callable[[str, bytes], bytes] = lambda graph, model: model,
        *,
        in_file_order: bool = False,
    ) -> None:
        self._bundle, self._prepare, self._in_file_order = bundle, prepare, in_file_order
        self._open: tuple[str, Any] = ("", None)
        self.precisions = {name: graph.variants[0].precision for name, graph in bundle.manifest.graphs.items()}

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph, loading it first when it is not the one that ran last.

        Args:
            graph: The graph's name.
            inputs: Its inputs by name, in the manifest's dtypes.
            outputs: Arrays to copy outputs into, by name; None allocates all of them.

        Returns:
            Every output by name.
        """
        if self._open[0] != graph:
            self._open = ("", None)
            model = self._prepare(graph, self._bundle.read(f"{graph}.onnx"))
            self._open = (graph, open_session(model, self._bundle.path, in_file_order=self._in_file_order))
        session = self._open[1]
        names = [output.name for output in session.get_outputs()]
        return copy_outputs(dict(zip(names, session.run(names, dict(inputs)), strict=True)), outputs)

    def close(self) -> None:
        """Release the loaded graph."""
        self._open = ("", None)
