"""Asynchronous uploads: a ring of pinned blocks, each reused when its copies are done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from alterbute.backends.base import Array
from alterbute.backends.cuda.runtime import Cuda

_ALIGNMENT: Final = 256


class UploadRing:
    """A ring of pinned blocks for uploads.

    Args:
        cuda: The device.
        size: Bytes of one block; a block grows when an upload needs more.
        depth: How many uploads may be under way before the host waits for the first of them.
    """

    def __init__(self, cuda: Cuda, *, size: int, depth: int) -> None:
        self._cuda = cuda
        self._blocks = [cuda.allocate_pinned(size) for _ in range(depth)]
        self._events: list[object | None] = [None] * depth
        self._turn = 0

    def send(self, items: Sequence[tuple[int, Array, int]]) -> None:
        """Enqueue copies to the device.

        Args:
            items: Device address, C-contiguous array, and how many bytes to write there: zeros follow the array's own.
        """
        offsets, total = [], 0
        for _, _, size in items:
            offsets.append(total)
            total += -(-size // _ALIGNMENT) * _ALIGNMENT
        block = self._take(total)
        for (address, array, size), offset in zip(items, offsets, strict=True):
            place = block[offset : offset + size]
            place[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            place[array.nbytes :] = 0
            self._cuda.upload(address, place)
        self._cuda.call("cudaEventRecord", self._events[self._turn], self._cuda.stream)
        self._turn = (self._turn + 1) % len(self._blocks)

    def close(self) -> None:
        """Free the blocks; no copy may be under way."""
        for event in filter(None, self._events):
            self._cuda.call("cudaEventDestroy", event)
        for block in self._blocks:
            self._cuda.free_pinned(block)

    def _take(self, size: int) -> Array:
        """The next block of the ring, once its earlier copies are done."""
        event = self._events[self._turn]
        if event is None:
            self._events[self._turn] = self._cuda.make_event()
        else:
            self._cuda.call("cudaEventSynchronize", event)
        if len(self._blocks[self._turn]) < size:
            self._cuda.free_pinned(self._blocks[self._turn])
            self._blocks[self._turn] = self._cuda.allocate_pinned(size)
        return self._blocks[self._turn]
