"""Constant folding with Polygraphy, which only the exporter uses: its engine loader would allow host code in any plan."""

from __future__ import annotations

import os
from contextlib import chdir
from pathlib import Path
from typing import Any, Final

from alterbute_export.errors import BuildError

_LARGEST_BYTES: Final = 1 << 16
"""Larger constants are not folded: folding the cast of a weight would copy the weight into the graph file."""


def fold_constants(model: bytes, folder: Path) -> bytes:
    """Fold what does not depend on an input, mostly shapes, so that the builder has fewer layers.

    Args:
        model: A serialized ONNX graph.
        folder: The folder of its external weights.

    Returns:
        The serialized folded graph.

    Raises:
        BuildError: Polygraphy or ONNX GraphSurgeon is not installed.
    """
    os.environ["POLYGRAPHY_AUTOINSTALL_DEPS"] = "0"
    try:
        import onnx
        import onnx_graphsurgeon  # noqa: F401  (Polygraphy imports it lazily, and its own error does not name it)
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
