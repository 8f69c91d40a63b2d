"""The bundle's solver table: coefficients that `alterbute.solver` computes, for runtimes without solver code, such as C++."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    """Write `solvers.safetensors`: every solver at 1 to 50 steps, strength 1, eta 0.

    See `alterbute.solver.solver_table` for the format.

    Args:
        folder: The bundle's folder.
        scheduler: The checkpoint's scheduler config.
        spacing: The bundle's default timestep spacing.

    Returns:
        The manifest's entry, without the solvers that do not support this scheduler config.

    Raises:
        BundleError: no solver supports the scheduler config.
    """
    tensors: dict[str, NDArray[Any]] = {}
    names, fault = [], None
    for solver in SOLVERS:
        try:
            parts = _make_tensors(scheduler, solver, spacing)
        except BundleError as refusal:
            fault = refusal
            continue
        names.append(solver)
        tensors |= {f"{solver}.{part}": tensor for part, tensor in parts.items()}
    if not names and fault:
        raise fault
    metadata = {"version": TABLE_VERSION, "state_rows": str(STATE_ROWS), "max_steps": str(MAX_STEPS)}
    metadata |= {"spacing": spacing, "solvers": " ".join(names)}
    (folder / TABLE_FILE).write_bytes(_to_safetensors(metadata, tensors))
    return SolverTable(file=TABLE_FILE, max_steps=MAX_STEPS, spacing=spacing, solvers=tuple(names))


def _make_tensors(scheduler: Mapping[str, object], solver: str, spacing: str) -> dict[str, NDArray[Any]]:
    """One solver's tensors: the steps of all step counts, one after another, and where each count begins (`offset`)."""
    by_count = [_compile(scheduler, solver, steps, spacing) for steps in range(1, MAX_STEPS + 1)]
    trajectories = [trajectory for trajectory in by_count if trajectory]
    matrix = _concatenate([trajectory.matrix for trajectory in trajectories], (STATE_ROWS, STATE_ROWS + 2))
    rows = _used_rows(matrix)
    columns = [*range(rows), *range(STATE_ROWS, STATE_ROWS + 2)]
    start = np.array([trajectory.start if trajectory else (0.0, 0.0) for trajectory in by_count])
    level = _concatenate([trajectory.level for trajectory in trajectories], (2,))
    timestep = _concatenate([trajectory.timestep for trajectory in trajectories], ())
    lengths = [len(trajectory.timestep) if trajectory else 0 for trajectory in by_count]
    return {
        "timestep": timestep.astype(np.float32),
        "matrix": matrix[:, :rows][:, :, columns].astype(np.float32),
        "level": level.astype(np.float32),
        "start": start.astype(np.float32),
        "offset": np.cumsum([0, *lengths], dtype=np.int64),
    }


def _concatenate(arrays: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    """The arrays `[steps, *shape]`, joined along the first axis; no steps if there are no arrays."""
    return np.concatenate(arrays) if arrays else np.zeros((0, *shape))


def _compile(scheduler: Mapping[str, object], solver: str, steps: int, spacing: str) -> Trajectory | None:
    """A solver's coefficients for a number of steps; None if this scheduler config does not allow that many."""
    try:
        return compile_trajectory(scheduler, solver, steps, spacing=spacing)
    except InputError as fault:
        if fault.param != "steps":
            raise
        return None


def _used_rows(matrix: NDArray[np.float64]) -> int:
    """Number of state rows up to the last one that any step writes or reads."""
    writes = np.any(matrix != 0, axis=(0, 2))
    reads = np.any(matrix != 0, axis=(0, 1))[:STATE_ROWS]
    return 1 + max(np.flatnonzero(writes | reads).tolist(), default=0)


def _to_safetensors(metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A safetensors file, the same bytes for the same numbers; the library's own writer does not keep the order of metadata."""
    # Widest type first, and a header whose length is a multiple of 8 bytes, so that every tensor is aligned in the file.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes() for _, tensor in ordered)
    return len(text).to_bytes(8, "little") + text + body
