"""The interface of every backend: run a graph by name, arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

from numpy.typing import NDArray

from alterbute.bundle import VariantPrecision

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

HOST_GRAPHS: Final = ("window", "paste", "paste16")
"""The image graphs: they always run on ONNX Runtime's CPU provider, so that all backends give the same pixels."""


def copy_outputs(results: dict[str, Array], outputs: Arrays | None) -> dict[str, Array]:
    """Copy results into the arrays that the caller provided; return every output, those arrays included.

    Args:
        results: Every output of a run, by name; changed in place.
        outputs: The caller's arrays by output name; None for none.
    """
    for name, array in (outputs or {}).items():
        array[...] = results[name]
        results[name] = array
    return results


def first_line(fault: Exception) -> str:
    """The first line of an error's text, or its type where it has none.

    The host's name and source paths, which follow in ONNX Runtime's CUDA errors, are left out.
    """
    lines = str(fault).strip().splitlines()
    return lines[0].split(" ; GPU=")[0] if lines else type(fault).__name__


class Backend(Protocol):
    """A bundle's graphs, runnable on one device. Calls of one graph must not overlap; different graphs may.

    Attributes:
        min_slots: Fewest slots of a launch of the step graph; smaller launches may differ from larger ones in their last bits.
        min_rows: Fewest rows of a launch, for the same reason.
    """

    min_slots: int
    min_rows: int

    @property
    def precisions(self) -> Mapping[str, VariantPrecision]:
        """Precision in which this backend runs each graph's matrix products and convolutions, by graph."""
        ...

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph once.

        Args:
            graph: A name of the manifest's `graphs`.
            inputs: Every input of the graph, C-contiguous, with the dtypes of the manifest.
            outputs: Arrays to write results into, by output name; an output that is not named here is newly allocated.

        Returns:
            Every output by name.

        Raises:
            EngineError: the graph cannot be loaded or run.
            BundleError: its file differs from the size or SHA-256 in the manifest.
        """
        ...

    def close(self) -> None:
        """Free the engines; the backend cannot be used afterwards."""
        ...
