"""Comparison of a written graph, run in ONNX Runtime, with its torch module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from alterbute.bundle import Parity, TensorSpec
from torch.nn import functional

from alterbute_export.errors import ParityError
from alterbute_export.graphs.spec import Array, GraphSpec, draw_inputs
from alterbute_export.onnx_io.sessions import open_session

LIMIT: Final = 1e-5
"""Largest allowed difference, as a share of the reference's largest value."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Torch's outputs for the drawn inputs of every check size: one tuple for each size, in the order of the spec's outputs."""

    outputs: tuple[tuple[Array, ...], ...]


def check_parity(spec: GraphSpec, path: Path) -> Parity:
    """Compare a written graph with its torch reference at every check size of the spec.

    Raises:
        ParityError: an output differs from torch by more than `LIMIT` times the spec's leeway.
    """
    return compare_graph(spec, path, run_reference(spec))


def run_reference(spec: GraphSpec) -> Reference:
    """Run the torch module at every check size of the spec; the module can be freed afterwards."""
    outputs = []
    for seed, sizes in enumerate(spec.check_sizes, start=1):
        inputs = draw_inputs(spec, sizes, seed)
        with torch.no_grad(), _exact_norms():
            results = spec.reference(*(torch.from_numpy(array) for array in inputs.values()))
        outputs.append(tuple(value.numpy() for value in (results if isinstance(results, tuple) else (results,))))
    return Reference(outputs=tuple(outputs))


def compare_graph(spec: GraphSpec, path: Path, reference: Reference) -> Parity:
    """Run the written graph in ONNX Runtime, and compare it with torch's outputs for the same inputs.

    Args:
        spec: The graph's inputs, outputs and check sizes; its models are not used.
        path: The written graph, beside its weights.
        reference: Torch's outputs, from `run_reference`.

    Returns:
        The largest relative error of all outputs and sizes.

    Raises:
        ParityError: an output differs from torch by more than `LIMIT` times the spec's leeway, has another shape, or is not finite.
    """
    session, unrounded = _open(path)
    names = [output.name for output in session.get_outputs()]
    limit = LIMIT * spec.leeway
    worst = 0.0
    for seed, (sizes, torch_outputs) in enumerate(zip(spec.check_sizes, reference.outputs, strict=True), start=1):
        outputs = dict(zip(names, session.run(None, draw_inputs(spec, sizes, seed)), strict=True))
        for edge, expected in zip(spec.outputs, torch_outputs, strict=True):
            worst = max(worst, _compare(spec.name, edge, outputs, unrounded.get(edge.name), expected, limit))
    # Two digits: the others depend on the CPU that the comparison runs on.
    return Parity(relative_error=float(f"{worst:.1e}"), against=f"torch {_release(torch.__version__)}")


@contextmanager
def _exact_norms() -> Iterator[None]:
    """Compute group norms in float64: over large flat areas, torch's fp32 statistics would be the largest error of the comparison."""
    plain = functional.group_norm

    def exact(
        input: torch.Tensor,
        num_groups: int,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        scale, shift = (value if value is None else value.double() for value in (weight, bias))
        return plain(input.double(), num_groups, scale, shift, eps).to(input.dtype)

    functional.group_norm = exact
    try:
        yield
    finally:
        functional.group_norm = plain


def _compare(
    name: str, edge: TensorSpec, outputs: dict[str, Array], unrounded: str | None, expected: Array, limit: float
) -> float:
    """Relative error of one output.

    A picture that the graph rounds to levels may differ by a rounding; its error is that of the value before rounding, `unrounded`,
    if the graph has it.
    """
    value = outputs[edge.name]
    if value.shape != expected.shape:
        raise _differs(name, edge, f"has shape {value.shape}", f"{expected.shape}")
    if value.dtype in (np.uint8, np.uint16) and expected.dtype == np.float32:
        levels, highest = float(np.abs(value.astype(np.float32) - expected).max()), np.iinfo(value.dtype).max
        if not levels <= 0.5 + highest * limit:
            raise _differs(name, edge, f"is {levels:.3f} levels off", "at most a rounding")
        if unrounded is None:
            return max(levels - 0.5, 0.0) / highest
        value = outputs[unrounded]
    if not np.isfinite(value).all():
        raise _differs(name, edge, "is not finite", "numbers")
    scale = float(np.abs(expected.astype(np.float64)).max())
    error = float(np.abs(value.astype(np.float64) - expected).max()) / (scale or 1.0)
    if not error <= limit:
        raise _differs(name, edge, f"is {error:.1e} off", f"at most {limit:.0e} of the largest value")
    return error


def _open(path: Path) -> tuple[Any, dict[str, str]]:
    """A session over the graph, and the names of the values before rounding, by the output that they are rounded to."""
    model = onnx.load(path, load_external_data=False)
    unrounded = _expose_unrounded(model)
    return open_session(model.SerializeToString(), path.parent), unrounded


def _expose_unrounded(model: onnx.ModelProto) -> dict[str, str]:
    """Make the input of every `Round -> Cast -> output` an output, too; returns its name by the rounded output's name."""
    producers = {name: node for node in model.graph.node for name in node.output}
    exposed = {}
    for output in list(model.graph.output):
        cast = producers[output.name]
        before = producers.get(cast.input[0]) if cast.op_type == "Cast" else None
        if before is not None and before.op_type == "Round":
            exposed[output.name] = before.input[0]
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(before.input[0]))
    return exposed


def _differs(name: str, edge: TensorSpec, seen: str, expected: str) -> ParityError:
    return ParityError(
        f"graph {name}, output {edge.name}: the exported graph {seen} against torch",
        expected,
        "report this checkpoint's configs: the exporter does not support this architecture fully",
    )


def _release(version: str) -> str:
    """A version without its build tag: `2.13.0` of `2.13.0+cpu`, so that bundles do not depend on the installed build."""
    return version.split("+", maxsplit=1)[0]
