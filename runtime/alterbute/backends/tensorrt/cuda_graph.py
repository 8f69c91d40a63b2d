"""One captured CUDA graph per shape of an engine, captured again when its addresses change."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from alterbute.backends.tensorrt import api
from alterbute.backends.tensorrt.engine import LoadedEngine
from alterbute.errors import DeviceError

_logger: Final = logging.getLogger(__name__)


class CudaGraph:
    """An engine at one shape and with fixed addresses: run plainly once, then captured as a CUDA graph, then replayed.

    Args:
        engine: The engine.
        context: Its execution context for this shape and these addresses.
    """

    def __init__(self, engine: LoadedEngine, context: api.IExecutionContext) -> None:
        self._engine, self._context = engine, context
        self._generation = engine.scratch.generation
        self._graph: object | None = None
        self._runs = 0
        self._can_capture = True

    def launch(self, uploaded: Collection[str]) -> None:
        """Enqueue one run; which inputs were uploaded makes no difference to an engine."""
        cuda = self._engine.cuda
        if self._generation != self._engine.scratch.generation:
            self._move()
        if self._graph is None and self._runs and self._can_capture:
            self._capture()
        if self._graph is not None:
            cuda.launch(self._graph)
        else:
            # The first run of a shape allocates and compiles, which cannot be captured.
            self._engine.enqueue(self._context)
        self._runs += 1

    def close(self) -> None:
        """Destroy the captured graph."""
        if self._graph is not None:
            self._engine.cuda.call("cudaGraphExecDestroy", self._graph)
            self._graph = None

    def _move(self) -> None:
        """Take the new address of the scratch memory; the graph that was captured with the old one is destroyed."""
        self.close()
        self._engine.set_scratch(self._context)
        self._generation, self._runs = self._engine.scratch.generation, 0

    def _capture(self) -> None:
        try:
            with self._engine.cuda.capture() as graphs:
                self._engine.enqueue(self._context)
            self._graph = graphs[0]
        except DeviceError as fault:
            if fault.is_fatal:
                raise
            _logger.warning(
                "the graph %s cannot be captured as a CUDA graph and is enqueued each time: %s",
                self._engine.entry.graph,
                fault,
            )
            self._can_capture = False
