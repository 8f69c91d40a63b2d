"""ONNX Runtime on the CPU: sessions are created in the background, from verified bytes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from alterbute.backends.base import HOST_GRAPHS, Array, Arrays, first_line
from alterbute.backends.run_check import check_outputs
from alterbute.bundle import WEIGHTS_FILE, Bundle, Variant
from alterbute.bundle.graph_files import read_model
from alterbute.errors import BundleError, EngineError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_NAME: Final = "onnxruntime"
# The step graph takes as long to load as all others together: it is loaded first, the rest in the order of an edit.
_LOAD_ORDER: Final = ("step", "window", "scene", "identity", "prompt", "decode", "paste", "paste16")
_LOADERS: Final = 2
# The most threads with which a slot's bits do not depend on its launch (see the class); the argument `threads` overrides it.
_EXACT_THREADS: Final = 2
# The graphs that are large enough for more than one thread.
_LARGE: Final = frozenset({"scene", "step", "decode"})


class OnnxRuntimeBackend:
    """A bundle's graphs on ONNX Runtime's CPU execution provider; implements `alterbute.backends.Backend`.

    A launch of one slot or one row runs MLAS's matrix-vector kernels, which add in another order than its matrix
    kernels. From two slots and two rows on, a slot's bits do not depend on the other slots of its launch (tests check it),
    with up to two threads. With T > 2 threads MLAS splits a convolution that it cannot block by 16 channels (such as
    a `conv_in` of 49) differently when there are fewer than T rows, and the last bits (1e-6) depend on the batch.

    Args:
        bundle: The bundle; a graph without a CPU variant is refused at once.
        threads: CPU threads for the large graphs; None takes up to two.
        graphs: The graphs to load; None loads all of them.
    """

    min_slots: int = 2
    min_rows: int = 2

    def __init__(self, bundle: Bundle, *, threads: int | None = None, graphs: Collection[str] | None = None) -> None:
        if importlib.util.find_spec(_NAME) is None:
            raise EngineError(
                "onnxruntime is not installed", "the CPU engine library", "run `pip install 'alterbute[cpu]'`"
            )
        self._bundle = bundle
        names = sorted(bundle.manifest.graphs if graphs is None else graphs, key=_LOAD_ORDER.index)
        # Before anything is loaded: a bundle that the CPU cannot run is refused when it is opened.
        variants = {graph: _choose_variant(bundle, graph) for graph in names}
        self.precisions = {graph: variant.precision for graph, variant in variants.items()}
        self._variants = variants
        self._threads = threads or min(_usable_cpus(), _EXACT_THREADS)
        self._pool = ThreadPoolExecutor(_LOADERS, "alterbute-load")
        self._weights: Future[bytes | None] = self._pool.submit(self._read_weights)
        self._sessions = {graph: self._pool.submit(self._make_session, graph) for graph in names}
        # Sessions keep their own copy of what they need: once all exist, the file's bytes are released.
        self._pool.submit(self._drop_weights)
        self._pool.shutdown(wait=False)

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph once; the first call of a graph waits until it is loaded.

        Args:
            graph: A name of the manifest's `graphs`.
            inputs: Every input of the graph by name, C-contiguous, with the dtypes of the manifest.
            outputs: Arrays to write results into, by output name; an output that is not named here is newly allocated.

        Returns:
            Every output by name.

        Raises:
            EngineError: the graph cannot be loaded or run.
            BundleError: its file, or what it made, is not what the manifest lists.
        """
        session = self._sessions[graph].result()
        try:
            results = _run(session, inputs, outputs or {})
        except Exception as fault:
            raise EngineError(
                f"the graph {graph!r} failed in ONNX Runtime ({first_line(fault)})",
                "a run with the manifest's shapes",
                "verify the bundle with `alterbute verify`, or export it again",
            ) from fault
        check_outputs(graph, self._bundle.manifest, inputs, results)
        return results

    def close(self) -> None:
        """Free the sessions; the backend cannot be used afterwards."""
        for future in self._sessions.values():
            future.cancel()
        self._sessions.clear()

    def _read_weights(self) -> bytes | None:
        return self._bundle.read(WEIGHTS_FILE) if self._bundle.has(WEIGHTS_FILE) else None

    def _make_session(self, graph: str) -> InferenceSession:
        model = read_model(self._bundle, graph, self._variants[graph])
        weights = self._weights.result() or b""
        try:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            # Errors are raised; what the library would print besides holds names of the graph as they are.
            options.log_severity_level = 4
            options.intra_op_num_threads = self._threads if graph in _LARGE else 1
            options.inter_op_num_threads = 1
            # The planes of a large photo are hundreds of megabytes, which an arena would keep after the run.
            options.enable_cpu_mem_arena = graph not in HOST_GRAPHS
            # Passed even for a graph without weights: a session with such a table reads nothing else from disk.
            options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as fault:
            raise EngineError(
                f"ONNX Runtime cannot load the graph {graph!r} ({first_line(fault)})",
                "a graph that this version of ONNX Runtime supports",
                "upgrade onnxruntime, or export the bundle again",
            ) from fault

    def _drop_weights(self) -> None:
        for future in self._sessions.values():
            if not future.cancelled():
                future.exception()
        self._weights = Future()
        self._weights.set_result(None)


def _run(session: Any, inputs: Arrays, outputs: Arrays) -> dict[str, Array]:
    names = [edge.name for edge in session.get_outputs()]
    if not outputs:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for name in names:
        if name in outputs:
            array = outputs[name]
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        else:
            binding.bind_output(name)
    session.run_with_iobinding(binding)
    results = dict(zip(names, binding.get_outputs(), strict=True))
    return {name: outputs[name] if name in outputs else results[name].numpy() for name in names}


def _choose_variant(bundle: Bundle, graph: str) -> Variant:
    variants = bundle.manifest.graphs[graph].variants
    fitting = [variant for variant in variants if variant.backend == _NAME]
    if not fitting:
        precisions = " and ".join(sorted({variant.precision for variant in variants}))
        raise BundleError(
            f"the bundle's graph {graph!r} is {precisions}, for {', '.join(variant.backend for variant in variants)}",
            f"a variant for {_NAME}: the CPU runs fp32 and fp16 graphs",
            "use a GPU backend, or export the bundle with --precision fp16 or fp32",
        )
    return fitting[0]


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
