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
# Folding widens every fp16 weight for good, packing keeps a second copy in another order: faster, and three times as large.
_NO_PACKING: Final = "session.disable_prepacking"
_NO_FOLDING: Final = ["ConstantFolding"]


def weight_files(folder: Path) -> list[Path]:
    """The external data files of a bundle."""
    return sorted(folder.glob("weights*.bin"))


def open_session(model: bytes, folder: Path, *, in_file_order: bool = False) -> Any:
    """A CPU session over a graph whose weights are in `folder`, as small as can be.

    It computes what the runtime's sessions compute, more slowly. Unlike those it lets ONNX Runtime map the files itself, without
    a copy: they are the exporter's own, or were verified.

    Args:
        model: The graph.
        folder: Where its weights are.
        in_file_order: Run nodes in the order that they have in the file, as far as their inputs allow. ONNX Runtime's own order
            finishes the last output first: a graph that has an output at every value would hold all values until then.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(_FOLDER, str(folder.resolve()))
    options.add_session_config_entry(_NO_PACKING, "1")
    # The arena keeps what was freed, and grows by doubling.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    if in_file_order:
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_NO_FOLDING
    )


class StreamingBackend:
    """A CPU backend, as of `alterbute.backends.Backend`, that holds one graph at a time: a published bundle's do not fit together.

    Args:
        bundle: The bundle; what its graph files hold is verified, its weights are mapped as they are.
        prepare: Makes of a graph's name and file what is run in its place.
        in_file_order: As of `open_session`.
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

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """As `Backend.run`."""
        if self._open[0] != graph:
            self._open = ("", None)
            model = self._prepare(graph, self._bundle.read(f"{graph}.onnx"))
            self._open = (graph, open_session(model, self._bundle.path, in_file_order=self._in_file_order))
        session = self._open[1]
        names = [edge.name for edge in session.get_outputs()]
        return copy_outputs(dict(zip(names, session.run(names, dict(inputs)), strict=True)), outputs)

    def close(self) -> None:
        """As `Backend.close`."""
        self._open = ("", None)
