"""Polygraphy's constant folding, on the export side only: its engine loader would allow host code in any plan."""

from __future__ import annotations

import os
from contextlib import chdir
from pathlib import Path
from typing import Any, Final

from alterbute_export.errors import BuildError

_LARGEST_BYTES: Final = 1 << 16
"""Weights stay where they are: folding the cast of one would copy it into the graph file."""


def fold_constants(model: bytes, folder: Path) -> bytes:
    """Fold what does not depend on an input, shapes above all, so that the builder meets fewer layers.

    Args:
        model: An ONNX graph.
        folder: Where its external weights are.

    Raises:
        BuildError: Polygraphy or ONNX GraphSurgeon is not installed.
    """
    os.environ["POLYGRAPHY_AUTOINSTALL_DEPS"] = "0"
    try:
        import onnx
        import onnx_graphsurgeon  # noqa: F401  (Polygraphy imports it lazily, and tells nothing useful when it is missing)
        from polygraphy.backend.onnx import fold_constants as fold
        from polygraphy.logger import G_LOGGER
    except ImportError as fault:
        raise BuildError(
            f"{fault.name} is not installed",
            "Polygraphy and ONNX GraphSurgeon, for `sanitize = true`",
            "run `pip install 'alterbute[export]'`",
        ) from None
    with chdir(folder), G_LOGGER.verbosity(G_LOGGER.ERROR):
        folded: Any = fold(onnx.load_from_string(model), num_passes=2, size_threshold=_LARGEST_BYTES, error_ok=False)
    data: bytes = folded.SerializeToString(deterministic=True)
    return data
