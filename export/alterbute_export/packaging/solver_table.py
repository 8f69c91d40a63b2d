"""The bundle's solver table: what `alterbute.solver` computes, written down for programs without solver code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import SolverTable
from alterbute.errors import BundleError, InputError
from alterbute.solver import SOLVERS, STATE_ROWS, Trajectory, compile_trajectory
from alterbute.solver.solver_table import TABLE_VERSION
from numpy.typing import NDArray

TABLE_FILE: Final = "solvers.safetensors"
MAX_STEPS: Final = 50
_DTYPES: Final = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}


def write_solver_table(folder: Path, scheduler: Mapping[str, object], spacing: str) -> SolverTable:
    """Write `solvers.safetensors`: each solver at 1..50 steps, strength 1, eta 0 (`alterbute.solver.solver_table` has the format).

    Args:
        folder: Where to write.
        scheduler: The checkpoint's scheduler config.
        spacing: The bundle's default spacing.

    Returns:
        The manifest's entry; its solvers are all but those that this config rules out.

    Raises:
        BundleError: the config rules out every solver.
    """
    tensors: dict[str, NDArray[Any]] = {}
    names, fault = [], None
    for solver in SOLVERS:
        try:
            parts = _solver_tensors(scheduler, solver, spacing)
        except BundleError as refusal:
            fault = refusal
            continue
        names.append(solver)
        tensors |= {f"{solver}.{part}": tensor for part, tensor in parts.items()}
    if not names and fault:
        raise fault
    about = {"version": TABLE_VERSION, "state_rows": str(STATE_ROWS), "max_steps": str(MAX_STEPS)}
    about |= {"spacing": spacing, "solvers": " ".join(names)}
    (folder / TABLE_FILE).write_bytes(_to_safetensors(about, tensors))
    return SolverTable(file=TABLE_FILE, max_steps=MAX_STEPS, spacing=spacing, solvers=tuple(names))


def _solver_tensors(scheduler: Mapping[str, object], solver: str, spacing: str) -> dict[str, NDArray[Any]]:
    counts = [_steps_or_none(scheduler, solver, steps, spacing) for steps in range(1, MAX_STEPS + 1)]
    found = [steps for steps in counts if steps]
    matrix = np.concatenate([steps.matrix for steps in found]) if found else np.zeros((0, STATE_ROWS, STATE_ROWS + 2))
    rows = _used_rows(matrix)
    columns = [*range(rows), *range(STATE_ROWS, STATE_ROWS + 2)]
    start = np.array([steps.start if steps else (0.0, 0.0) for steps in counts])
    level = np.concatenate([steps.level for steps in found]) if found else np.zeros((0, 2))
    timestep = np.concatenate([steps.timestep for steps in found]) if found else np.zeros(0)
    return {
        "timestep": timestep.astype(np.float32),
        "matrix": matrix[:, :rows][:, :, columns].astype(np.float32),
        "level": level.astype(np.float32),
        "start": start.astype(np.float32),
        "offset": np.cumsum([0, *(len(steps.timestep) if steps else 0 for steps in counts)], dtype=np.int64),
    }


def _steps_or_none(scheduler: Mapping[str, object], solver: str, steps: int, spacing: str) -> Trajectory | None:
    """None where this solver cannot take that many steps on this checkpoint."""
    try:
        return compile_trajectory(scheduler, solver, steps, spacing=spacing)
    except InputError as fault:
        if fault.param != "steps":
            raise
        return None


def _used_rows(matrix: NDArray[np.float64]) -> int:
    """k: the state rows up to the last one that any step writes or reads."""
    writes = np.any(matrix != 0, axis=(0, 2))
    reads = np.any(matrix != 0, axis=(0, 1))[:STATE_ROWS]
    return 1 + max(np.flatnonzero(writes | reads).tolist(), default=0)


def _to_safetensors(about: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a safetensors file, the same for the same numbers (the library's own writer shuffles metadata)."""
    # Widest type first and a header of whole 8 bytes, so that every tensor is aligned where it lies.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, object] = {"__metadata__": dict(about)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes() for _, tensor in ordered)
    return len(text).to_bytes(8, "little") + text + body
