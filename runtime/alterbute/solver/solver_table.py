"""`solvers.safetensors`: a bundle's solvers as numbers, for programs that have no solver code.

The file is in the safetensors format: the size of a JSON header as 8 little-endian bytes, the header, the tensors.
Per solver NAME it holds, for the step counts 1..50 one after another,

    NAME.timestep  [T]      f32   the UNet's timestep at each call
    NAME.matrix    [T,k,k+2] f32  W; k is the solver's own number of state rows, a reader pads it to K
    NAME.level     [T,2]    f32   signal and noise scale that each call reaches
    NAME.start     [50,2]   f32   signal and noise scale of the first latent
    NAME.offset    [51]     i64   calls offset[n - 1] up to offset[n] are those of n steps; none where n cannot be done
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alterbute.bundle.typed_json import parse
from alterbute.errors import BundleError, InputError
from alterbute.solver import STATE_ROWS, Trajectory

TABLE_VERSION: Final = "1"
PARTS: Final = ("timestep", "matrix", "level", "start", "offset")
_MAX_DIGITS: Final = 6
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A solver table that was read and checked.

    Args:
        spacing: The timestep spacing that it was made for.
        max_steps: The table holds step counts 1..max_steps.
        solvers: Names of its solvers.
        tensors: Arrays of the file by `NAME.PART`.
    """

    spacing: str
    max_steps: int
    solvers: tuple[str, ...]
    tensors: Mapping[str, NDArray[Any]]

    def compile_trajectory(self, solver: str, steps: int) -> Trajectory:
        """Look up a trajectory: that of `alterbute.solver.compile_trajectory`, rounded to f32.

        Raises:
            InputError: a solver or a number of steps that is not in the table.
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


def read_table(data: bytes) -> Table:
    """Read and check a `solvers.safetensors`; its tensors are views of the bytes.

    Raises:
        BundleError: it is not such a file, or its numbers do not fit together.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise _fault(f"has a header of {size} bytes in {len(data)}", "a header within the file")
    try:
        header = parse(data[8 : 8 + size])
    except ValueError as fault:
        raise _fault(f"has a header that is not JSON ({fault})", "a JSON object") from None
    if not isinstance(header, dict) or not isinstance(about := header.pop("__metadata__", None), dict):
        raise _fault("has no __metadata__", "a JSON object with it")
    body = memoryview(data)[8 + size :]
    tensors, end = {}, 0
    for name, entry in header.items():
        tensors[name], end = _tensor(name, entry, body, end)
    if end != len(body):
        raise _fault(f"has {len(body)} bytes of tensors", f"{end}, as its header says")
    table = _table(about, tensors)
    for solver in table.solvers:
        _check_solver(table, solver)
    return table


def _tensor(name: str, entry: object, body: memoryview, begin: int) -> tuple[NDArray[Any], int]:
    """Read one tensor, which has to start where the last one ended; returns it and its end."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, span = _DTYPES.get(str(fields.get("dtype"))), fields.get("shape"), fields.get("data_offsets")
    if fields.keys() != {"dtype", "shape", "data_offsets"} or dtype is None or not isinstance(shape, list):
        raise _fault(f"has {name} = {entry!r:.80}", f"dtype ({' or '.join(_DTYPES)}), shape and data_offsets")
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise _fault(f"has {name} of shape {shape}", "whole numbers")
    end = begin + prod(shape) * dtype.itemsize
    if span != [begin, end] or end > len(body):
        raise _fault(f"has {name} at {span}", f"bytes {begin} to {end} of {len(body)}")
    return np.frombuffer(body[begin:end], dtype).reshape(shape), end


def _table(about: Mapping[str, object], tensors: Mapping[str, NDArray[Any]]) -> Table:
    if about.get("version") != TABLE_VERSION or about.get("state_rows") != str(STATE_ROWS):
        seen = f"is of version {about.get('version')!r} with {about.get('state_rows')!r} state rows"
        raise _fault(seen, f"version {TABLE_VERSION!r} with {str(STATE_ROWS)!r}")
    names = tuple(str(about.get("solvers")).split())
    wanted = {f"{name}.{part}" for name in names for part in PARTS}
    if not names or tensors.keys() != wanted:
        raise _fault(f"has the tensors {sorted(tensors)!r:.200}", f"{sorted(wanted)!r:.200}, of its solvers")
    max_steps = str(about.get("max_steps"))
    if not (max_steps.isdecimal() and len(max_steps) <= _MAX_DIGITS):
        raise _fault(f"has max_steps {max_steps!r:.20}", "a number of steps")
    return Table(spacing=str(about.get("spacing")), max_steps=int(max_steps), solvers=names, tensors=tensors)


def _check_solver(table: Table, solver: str) -> None:
    timestep, matrix, level, start, offset = (table.tensors[f"{solver}.{part}"] for part in PARTS)
    calls, rows = len(timestep), matrix.shape[1] if matrix.ndim == 3 else 0
    shapes = {"timestep": (calls,), "matrix": (calls, rows, rows + 2), "level": (calls, 2)}
    shapes |= {"start": (table.max_steps, 2), "offset": (table.max_steps + 1,)}
    for part, shape in shapes.items():
        tensor = table.tensors[f"{solver}.{part}"]
        if tensor.shape != shape or tensor.dtype != _DTYPES["I64" if part == "offset" else "F32"]:
            raise _fault(f"has {solver}.{part} {tensor.dtype}{list(tensor.shape)}", f"shape {list(shape)}")
    if not 1 <= rows <= STATE_ROWS or not all(np.isfinite(part).all() for part in (timestep, matrix, level, start)):
        raise _fault(f"has {rows} state rows or an infinite number in {solver}", f"1 to {STATE_ROWS}, all finite")
    if offset[0] != 0 or offset[-1] != calls or any(after < now for now, after in pairwise(offset)):
        raise _fault(f"has {solver}.offset {offset[0]} to {offset[-1]}", f"a rise from 0 to {calls}")


def _pad(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pad matrices [n,k,k+2] to [n,K,K+2]; rows and columns of unused state rows are 0."""
    calls, rows = matrix.shape[:2]
    padded = np.zeros((calls, STATE_ROWS, STATE_ROWS + 2))
    padded[:, :rows, :rows] = matrix[:, :, :rows]
    padded[:, :rows, STATE_ROWS:] = matrix[:, :, rows:]
    return padded


def _input_error(param: str, value: object, expected: str, code: str) -> InputError:
    return InputError(f"{param} is {value!r}", expected, f"choose another {param}", param, f"{param}_{code}")


def _fault(seen: str, expected: str) -> BundleError:
    return BundleError(f"the bundle's solver table {seen}", expected, "export the bundle again")
