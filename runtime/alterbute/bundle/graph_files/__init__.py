"""Graph files (ONNX) of a bundle, checked before an engine library reads them."""

from __future__ import annotations

from alterbute.bundle.graph_files.graph_file import GraphFile, read_graph_file, read_model, read_model_and_prologue

__all__ = ["GraphFile", "read_graph_file", "read_model", "read_model_and_prologue"]
