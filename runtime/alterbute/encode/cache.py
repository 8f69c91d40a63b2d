"""Graph outputs by the content of their inputs: what was encoded once is not encoded again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock

import numpy as np

from alterbute.backends import Array, Arrays


class EncodingCache:
    """Outputs up to a number of bytes; those that were asked for longest ago go first. For any threads.

    Args:
        size_bytes: What it holds at most; outputs that are larger than that are not kept.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes, self._used_bytes = size_bytes, 0
        self._kept: OrderedDict[bytes, dict[str, Array]] = OrderedDict()
        self._lock = Lock()

    @property
    def used_bytes(self) -> int:
        """What it holds now."""
        return self._used_bytes

    def find(self, key: bytes) -> dict[str, Array] | None:
        """The outputs of an earlier run, read-only; None if there was none, or it is forgotten."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def keep(self, key: bytes, outputs: dict[str, Array]) -> None:
        """Remember outputs, which nobody may write to afterwards."""
        for array in outputs.values():
            array.setflags(write=False)
        size = _count_bytes(outputs)
        with self._lock:
            if key in self._kept or size > self._size_bytes:
                return
            self._kept[key] = outputs
            self._used_bytes += size
            while self._used_bytes > self._size_bytes:
                self._used_bytes -= _count_bytes(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._used_bytes = 0


def content_key(graph: str, inputs: Arrays) -> bytes:
    """What a graph is run on, to the last byte. SHA-256, which processors have an instruction for.

    An array that is given under several names, as a mask that is both object and region, is read once.
    """
    digests: dict[int, bytes] = {}
    key = hashlib.sha256(graph.encode())
    for name, array in inputs.items():
        if id(array) not in digests:
            digests[id(array)] = hashlib.sha256(np.ascontiguousarray(array).data).digest()
        key.update(f"\0{name} {array.dtype} {array.shape}\0".encode() + digests[id(array)])
    return key.digest()


def _count_bytes(outputs: Arrays) -> int:
    return sum(array.nbytes for array in outputs.values())
