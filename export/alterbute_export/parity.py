"""Does the file compute what the model computes? Asked of every graph as it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from alterbute.bundle import WEIGHTS_FILE, Parity, TensorSpec

from alterbute_export.errors import ParityError
from alterbute_export.graphs.spec import Array, GraphSpec, draw_inputs

LIMIT: Final = 1e-5
"""Largest allowed difference, as a share of the reference's largest value."""


def check_parity(spec: GraphSpec, path: Path) -> Parity:
    """Run the written graph in ONNX Runtime against its reference in torch, at every size of the spec.

    Raises:
        ParityError: an output is further from the reference than `LIMIT`, has another shape, or is not finite.
    """
    session, unrounded = _open(path)
    worst = 0.0
    for seed, sizes in enumerate(spec.check_sizes, start=1):
        inputs = draw_inputs(spec, sizes, seed)
        found = dict(zip(_names(session), session.run(None, inputs), strict=True))
        with torch.no_grad():
            wanted = spec.reference(*(torch.from_numpy(array) for array in inputs.values()))
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for edge, expected in zip(spec.outputs, wanted, strict=True):
            error = _compare(spec.name, edge, found, unrounded.get(edge.name), expected.numpy())
            worst = max(worst, error)
    # Two digits: more would only say which processor did the comparison.
    return Parity(relative_error=float(f"{worst:.1e}"), against=f"torch {_release(torch.__version__)}")


def _compare(name: str, edge: TensorSpec, found: dict[str, Array], unrounded: str | None, wanted: Array) -> float:
    """Relative error of one output; a rounded picture is compared before rounding and within one level after it."""
    value = found[edge.name]
    if value.shape != wanted.shape:
        raise _differs(name, edge, f"has shape {value.shape}", f"{wanted.shape}")
    if unrounded is not None:
        levels = np.abs(value.astype(np.float32) - wanted).max()
        if not levels <= 0.5 + 255 * LIMIT:
            raise _differs(name, edge, f"is {levels:.3f} levels off", "at most a rounding")
        value = found[unrounded]
    if not np.isfinite(value).all():
        raise _differs(name, edge, "is not finite", "numbers")
    scale = float(np.abs(wanted.astype(np.float64)).max())
    error = float(np.abs(value.astype(np.float64) - wanted).max()) / (scale or 1.0)
    if not error <= LIMIT:
        raise _differs(name, edge, f"is {error:.1e} off", f"at most {LIMIT:.0e} of the largest value")
    return error


def _open(path: Path) -> tuple[Any, dict[str, str]]:
    """A session over the file's bytes and the weights' bytes, as the runtime opens it; plus the values before Round."""
    model = onnx.load(path, load_external_data=False)
    unrounded = _expose_unrounded(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    weights = (path.parent / WEIGHTS_FILE).read_bytes()
    if weights:
        options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, unrounded


def _expose_unrounded(model: onnx.ModelProto) -> dict[str, str]:
    """Make what goes into `Round -> Cast -> output` an output too, in memory only."""
    producers = {name: node for node in model.graph.node for name in node.output}
    exposed = {}
    for output in list(model.graph.output):
        cast = producers[output.name]
        before = producers.get(cast.input[0]) if cast.op_type == "Cast" else None
        if before is not None and before.op_type == "Round":
            exposed[output.name] = before.input[0]
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(before.input[0]))
    return exposed


def _names(session: Any) -> list[str]:
    return [output.name for output in session.get_outputs()]


def _differs(name: str, edge: TensorSpec, seen: str, expected: str) -> ParityError:
    return ParityError(
        f"graph {name}, output {edge.name}: the exported graph {seen} against torch",
        expected,
        "report this checkpoint's configs: the exporter does not know this architecture well enough",
    )


def _release(version: str) -> str:
    """`2.13.0` of `2.13.0+cpu`: which build was installed does not belong into a bundle."""
    return version.split("+", maxsplit=1)[0]
