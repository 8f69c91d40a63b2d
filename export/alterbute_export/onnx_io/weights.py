"""`weights.bin`: the external data that all graphs of a bundle share, each tensor stored once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir
from alterbute.bundle import WEIGHTS_FILE
from numpy.typing import NDArray

from alterbute_export.onnx_io.ir import make_cast, redirect_readers

INLINE_LIMIT_BYTES: Final = 1024
"""Smaller tensors stay in the graph file: loaders need shapes and norms before they read the weights."""
_ALIGNMENT: Final = 64


class WeightStore:
    """Appends tensors to the weights file, each content once.

    Args:
        folder: The bundle's folder; the file is created in it.
        half: Store fp32 tensors as fp16 where that loses nothing, as for weights that were fp16 in the checkpoint.
        file: The file's name.
    """

    def __init__(self, folder: Path, *, half: bool, file: str = WEIGHTS_FILE) -> None:
        self.path = folder / file
        self.path.touch()
        self._half = half
        self._offsets: dict[tuple[str, int], int] = {}

    def move_out(self, model: ir.Model, *, takes_stored: bool = False) -> None:
        """Replace the model's large initializers by references into the weights file, in their order.

        Args:
            model: The graph, changed in place.
            takes_stored: Move tensors that are in another weights file, too.
        """
        casts: list[ir.Node] = []
        for name, value in list(model.graph.initializers.items()):
            tensor = value.const_value
            if tensor is None:
                continue
            # A tensor in another weights file may be smaller than the limit, as it is fp16 there: it moves all the same,
            # because that file is deleted.
            is_stored = isinstance(tensor, ir.ExternalTensor)
            stays = not takes_stored if is_stored else tensor.nbytes < INLINE_LIMIT_BYTES
            if stays:
                continue
            array = np.ascontiguousarray(tensor.numpy())
            halved = array.astype(np.float16) if self._half and array.dtype == np.float32 else None
            if halved is not None and np.array_equal(halved.astype(np.float32), array):
                casts.append(_cast_to_fp32(value))
                array = halved
            value.const_value = self._store(name, array)
            value.dtype = value.const_value.dtype
        if casts:
            model.graph.insert_before(model.graph[0], casts)

    def _store(self, name: str, array: NDArray[np.generic]) -> ir.ExternalTensor:
        data = array.tobytes()
        key = (hashlib.sha256(data).hexdigest(), len(data))
        if key not in self._offsets:
            self._offsets[key] = self._append(data)
        return ir.ExternalTensor(
            self.path.name,
            self._offsets[key],
            len(data),
            ir.DataType.from_numpy(array.dtype),
            shape=ir.Shape(array.shape),
            name=name,
            base_dir=self.path.parent,
        )

    def _append(self, data: bytes) -> int:
        with self.path.open("ab") as file:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            offset = file.tell()
            file.write(data)
        return offset


def _cast_to_fp32(value: ir.Value) -> ir.Node:
    """A Cast to fp32 between an initializer that becomes fp16 and its readers; loaders fold it when they open the graph."""
    cast = make_cast(value, ir.DataType.FLOAT, name=f"cast_{value.name}", output=f"{value.name}_fp32")
    redirect_readers(value, cast.outputs[0], skip=cast)
    return cast
