"""ONNX Runtime sessions over bytes, as the runtime opens them: graph and weights from memory, nothing else from disk."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnxruntime
from alterbute.backends import Array, Arrays
from alterbute.backends.base import hand_over
from alterbute.bundle import Bundle

# Folding widens every fp16 weight for good, packing keeps a second copy in another order: faster, and three times as large.
_LEAN: Final = {"session.disable_prepacking": "1"}
_NOT_LEAN: Final = ["ConstantFolding"]


def weight_files(folder: Path) -> list[Path]:
    """The external data files of a bundle."""
    return sorted(folder.glob("weights*.bin"))


def open_session(model: bytes, folder: Path) -> Any:
    """A CPU session over a graph whose weights are in `folder`, as small as can be: the files are mapped, not read.

    It computes what the runtime's sessions compute, more slowly.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in _LEAN.items():
        options.add_session_config_entry(key, value)
    files = [path for path in weight_files(folder) if path.stat().st_size]
    maps = [_map(path) for path in files]
    if files:
        options.add_external_initializers_from_files_in_memory([path.name for path in files], maps, list(map(len, maps)))
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_NOT_LEAN
    )
    # Weights may stay where they are mapped for as long as the session lives.
    session.mapped_weights = maps
    return session


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class OneGraphBackend:
    """A CPU backend, as of `alterbute.backends.Backend`, that holds one graph at a time: a published bundle's do not fit together.

    Args:
        bundle: The bundle; what its graph files hold is verified, its weights are mapped as they are.
        prepare: Makes of a graph's name and file what is run in its place.
    """

    min_slots: int = 1
    min_rows: int = 1

    def __init__(self, bundle: Bundle, prepare: Callable[[str, bytes], bytes] = lambda graph, model: model) -> None:
        self._bundle, self._prepare = bundle, prepare
        self._open: tuple[str, Any] = ("", None)

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """As `Backend.run`."""
        if self._open[0] != graph:
            self._open = ("", None)
            model = self._prepare(graph, self._bundle.read(f"{graph}.onnx"))
            self._open = (graph, open_session(model, self._bundle.path))
        session = self._open[1]
        names = [edge.name for edge in session.get_outputs()]
        return hand_over(dict(zip(names, session.run(names, dict(inputs)), strict=True)), outputs)

    def close(self) -> None:
        """As `Backend.close`."""
        self._open = ("", None)
