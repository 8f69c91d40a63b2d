"""`solvers.safetensors`: the matrices of a bundle's solvers, for programs that have no solver code.

The file is in the safetensors format: the size of a JSON header as 8 little-endian bytes, the header, the tensors.
For each solver NAME it holds these tensors, in which the step counts 1..50 follow one another (T calls in all):

    NAME.timestep  [T]      f32   the UNet's timestep at each call
    NAME.matrix    [T,k,k+2] f32  W of each call; k is the solver's own number of state rows, which a reader pads to K
    NAME.level     [T,2]    f32   signal and noise scale that each call reaches
    NAME.start     [50,2]   f32   signal and noise scale of the first latent
    NAME.offset    [51]     i64   calls offset[n - 1] up to offset[n] are those of n steps; none if n is not supported
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alterbute.bundle.strict_json import parse_json
from alterbute.errors import BundleError, InputError
from alterbute.solver import STATE_ROWS, Trajectory

TABLE_VERSION: Final = "1"
PARTS: Final = ("timestep", "matrix", "level", "start", "offset")
_MAX_DIGITS: Final = 6
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrajectoryTable:
    """The trajectories of a checked solver table.

    Args:
        spacing: The timestep spacing that the table was compiled with.
        max_steps: The table holds the step counts 1..max_steps.
        solvers: Names of the solvers.
        tensors: Arrays of the file by `NAME.PART`.
    """

    spacing: str
    max_steps: int
    solvers: tuple[str, ...]
    tensors: Mapping[str, NDArray[Any]]

    def compile_trajectory(self, solver: str, steps: int) -> Trajectory:
        """Look up the trajectory that `alterbute.solver.compile_trajectory` returns, rounded to f32.

        Raises:
            InputError: the table does not hold the solver or the number of steps.
        """
        if solver not in self.solvers:
            raise _input_error("solver", solver, f"one of {', '.join(self.solvers)}", "unknown")
        timestep, matrix, level, start, offset = (self.tensors[f"{solver}.{part}"] for part in PARTS)
        if not 1 <= steps <= self.max_steps or offset[steps - 1] == offset[steps]:
            raise _input_error("steps", steps, f"a count that the table has for {solver}", "out_of_range")
        calls = slice(offset[steps - 1], offset[steps])
        return Trajectory(
            timestep=timestep[calls],
            matrix=_pad(matrix[calls].astype(np.float64)),
            level=level[calls].astype(np.float64),
            start=start[steps - 1].astype(np.float64),
        )


def read_table(data: bytes) -> TrajectoryTable:
    """Read and check the bytes of a `solvers.safetensors`; the tensors are views of these bytes.

    Raises:
        BundleError: the bytes are not such a file, or its tensors do not fit together.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise _table_error(f"has a header of {size} bytes in {len(data)}", "a header within the file")
    try:
        header = parse_json(data[8 : 8 + size])
    except ValueError as fault:
        raise _table_error(f"has a header that is not JSON ({fault})", "a JSON object") from None
    if not isinstance(header, dict) or not isinstance(metadata := header.pop("__metadata__", None), dict):
        raise _table_error("has no __metadata__", "a JSON object with it")
    body = memoryview(data)[8 + size :]
    tensors, end = {}, 0
    for name, entry in header.items():
        tensors[name], end = _read_tensor(name, entry, body, end)
    if end != len(body):
        raise _table_error(f"has {len(body)} bytes of tensors", f"{end}, the end of its last tensor")
    table = _make_table(metadata, tensors)
    for solver in table.solvers:
        _check_solver(table, solver)
    return table


def _read_tensor(name: str, entry: object, body: memoryview, begin: int) -> tuple[NDArray[Any], int]:
    """Read one tensor, which must start at `begin`, where the last one ended; returns the tensor and its end."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, span = _DTYPES.get(str(fields.get("dtype"))), fields.get("shape"), fields.get("data_offsets")
    if fields.keys() != {"dtype", "shape", "data_offsets"} or dtype is None or not isinstance(shape, list):
        raise _table_error(f"has {name} = {entry!r:.80}", f"dtype ({' or '.join(_DTYPES)}), shape and data_offsets")
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise _table_error(f"has {name} of shape {shape}", "whole numbers")
    end = begin + prod(shape) * dtype.itemsize
    if span != [begin, end] or end > len(body):
        raise _table_error(f"has {name} at {span}", f"bytes {begin} to {end} of {len(body)}")
    return np.frombuffer(body[begin:end], dtype).reshape(shape), end


def _make_table(metadata: Mapping[str, object], tensors: Mapping[str, NDArray[Any]]) -> TrajectoryTable:
    if metadata.get("version") != TABLE_VERSION or metadata.get("state_rows") != str(STATE_ROWS):
        seen = f"is of version {metadata.get('version')!r} with {metadata.get('state_rows')!r} state rows"
        raise _table_error(seen, f"version {TABLE_VERSION!r} with {str(STATE_ROWS)!r}")
    names = tuple(str(metadata.get("solvers")).split())
    expected_names = {f"{name}.{part}" for name in names for part in PARTS}
    if not names or tensors.keys() != expected_names:
        raise _table_error(
            f"has the tensors {sorted(tensors)!r:.200}", f"{sorted(expected_names)!r:.200}, of its solvers"
        )
    max_steps = str(metadata.get("max_steps"))
    if not (max_steps.isdecimal() and len(max_steps) <= _MAX_DIGITS):
        raise _table_error(f"has max_steps {max_steps!r:.20}", "a number of steps")
    return TrajectoryTable(
        spacing=str(metadata.get("spacing")), max_steps=int(max_steps), solvers=names, tensors=tensors
    )


def _check_solver(table: TrajectoryTable, solver: str) -> None:
    timestep, matrix, level, start, offset = (table.tensors[f"{solver}.{part}"] for part in PARTS)
    calls, rows = len(timestep), matrix.shape[1] if matrix.ndim == 3 else 0
    shapes = {"timestep": (calls,), "matrix": (calls, rows, rows + 2), "level": (calls, 2)}
    shapes |= {"start": (table.max_steps, 2), "offset": (table.max_steps + 1,)}
    for part, shape in shapes.items():
        tensor = table.tensors[f"{solver}.{part}"]
        if tensor.shape != shape or tensor.dtype != _DTYPES["I64" if part == "offset" else "F32"]:
            raise _table_error(f"has {solver}.{part} {tensor.dtype}{list(tensor.shape)}", f"shape {list(shape)}")
    if not 1 <= rows <= STATE_ROWS or not all(np.isfinite(part).all() for part in (timestep, matrix, level, start)):
        raise _table_error(f"has {rows} state rows or an infinite number in {solver}", f"1 to {STATE_ROWS}, all finite")
    if offset[0] != 0 or offset[-1] != calls or any(after < now for now, after in pairwise(offset)):
        raise _table_error(f"has {solver}.offset {offset[0]} to {offset[-1]}", f"a rise from 0 to {calls}")


def _pad(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pad matrices [n,k,k+2] to [n,K,K+2]; rows and columns of unused state rows are 0."""
    calls, rows = matrix.shape[:2]
    padded = np.zeros((calls, STATE_ROWS, STATE_ROWS + 2))
    padded[:, :rows, :rows] = matrix[:, :, :rows]
    padded[:, :rows, STATE_ROWS:] = matrix[:, :, rows:]
    return padded


def _input_error(param: str, value: object, expected: str, code: str) -> InputError:
    return InputError(f"{param} is {value!r}", expected, f"choose another {param}", param, f"{param}_{code}")


def _table_error(seen: str, expected: str) -> BundleError:
    return BundleError(f"the bundle's solver table {seen}", expected, "export the bundle again")
