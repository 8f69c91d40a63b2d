"""A cache of graph outputs, keyed by the content of their inputs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock

import numpy as np

from alterbute.backends import Array, Arrays


class EncodingCache:
    """A least-recently-used cache of graph outputs with a limit in bytes; thread-safe.

    Args:
        size_bytes: Limit in bytes; outputs that are larger than the limit are not stored.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes, self._used_bytes = size_bytes, 0
        self._entries: OrderedDict[bytes, dict[str, Array]] = OrderedDict()
        self._lock = Lock()

    @property
    def used_bytes(self) -> int:
        """Bytes of the outputs in the cache."""
        return self._used_bytes

    def find(self, key: bytes) -> dict[str, Array] | None:
        """The outputs stored under a key, read-only; None if they are not in the cache."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def store(self, key: bytes, outputs: dict[str, Array]) -> None:
        """Add the outputs of a run, and evict the least recently used ones; the arrays become read-only."""
        for array in outputs.values():
            array.setflags(write=False)
        size = _count_bytes(outputs)
        with self._lock:
            if key in self._entries or size > self._size_bytes:
                return
            self._entries[key] = outputs
            self._used_bytes += size
            while self._used_bytes > self._size_bytes:
                self._used_bytes -= _count_bytes(self._entries.popitem(last=False)[1])

    def clear(self) -> None:
        """Remove all outputs."""
        with self._lock:
            self._entries.clear()
            self._used_bytes = 0


def content_key(graph: str, inputs: Arrays) -> bytes:
    """SHA-256 over the graph's name and the names, dtypes, shapes and bytes of all inputs.

    An array that is passed under several names, such as a mask that is both object and region, is hashed once.
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
