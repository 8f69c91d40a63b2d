"""ONNX Runtime sessions over bytes, as the runtime opens them: graph and weights from memory, nothing else from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime


def weight_files(folder: Path) -> list[Path]:
    """The external data files of a bundle."""
    return sorted(folder.glob("weights*.bin"))


def open_session(model: bytes, folder: Path) -> Any:
    """A CPU session over a graph whose weights are in `folder`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    files = [path for path in weight_files(folder) if path.stat().st_size]
    if files:
        contents = [path.read_bytes() for path in files]
        options.add_external_initializers_from_files_in_memory(
            [path.name for path in files], contents, list(map(len, contents))
        )
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
