"""A loaded engine, its execution contexts, and the scratch memory that all engines share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alterbute.backends.cuda.runtime import Cuda
from alterbute.backends.tensorrt import api
from alterbute.backends.tensorrt.module import RtxModule, RuntimeModule, make_recorder, take_errors
from alterbute.bundle import Bundle, Engine, Graph, Product, ShapeRange
from alterbute.bundle.graph_files import read_graph_file
from alterbute.errors import DeviceError, EngineError


class ScratchMemory:
    """Scratch memory that all contexts share: they run on one stream, one after the other.

    `generation` counts how often it moved: a graph that was captured in an earlier generation must not be launched.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.address, self.size, self.generation = 0, 0, 0

    def grow(self, size: int) -> None:
        """Grow to at least this many bytes; when the memory moves, graphs captured before must not be launched."""
        if size <= self.size:
            return
        self._cuda.synchronize()
        self.close()
        self.address, self.size = self._cuda.allocate(size), size
        self.generation += 1

    def close(self) -> None:
        """Free the memory."""
        if self.size:
            self._cuda.free(self.address)
            self.address, self.size = 0, 0


class LoadedEngine:
    """An engine of the bundle, loaded from verified bytes.

    Args:
        trt: The engine library's module.
        runtime: The library's runtime.
        logger: The library's logger.
        cuda: Device and stream.
        scratch: The shared scratch memory, grown to what this engine needs.
        bundle: The bundle, which holds the weights of an engine that was built without them.
        engine: The engine's entry in the manifest.
        data: The engine's verified bytes.
    """

    def __init__(
        self,
        trt: RuntimeModule,
        runtime: api.Runtime,
        logger: Any,
        cuda: Cuda,
        scratch: ScratchMemory,
        bundle: Bundle,
        engine: Engine,
        data: bytes,
    ) -> None:
        self.entry, self.scratch, self.cuda = engine, scratch, cuda
        self._trt = trt
        self._recorder = make_recorder(trt)
        runtime.error_recorder = self._recorder
        loaded = runtime.deserialize_cuda_engine(data)
        if loaded is None:
            raise self._fault("does not load", "an engine for this machine")
        self._engine = loaded
        if engine.refit == "identical":
            _refit(trt, loaded, logger, bundle, engine)
        self.inputs, self.outputs = self._list_edges(bundle.manifest.graphs[engine.graph])
        scratch.grow(loaded.device_memory_size_v2)

    def find_profile(self, accepts: Callable[[Mapping[str, ShapeRange]], bool]) -> int:
        """Index of the first profile that `accepts` returns True for, or -1."""
        return next((index for index, profile in enumerate(self.entry.profiles) if accepts(profile)), -1)

    def make_context(
        self, profile: int, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]
    ) -> api.IExecutionContext:
        """Make an execution context whose profile, shapes, scratch memory and addresses do not change again.

        Args:
            profile: Index of the optimization profile.
            shapes: Shape of every input, by name.
            addresses: Device address of every input and output, by name.

        Raises:
            EngineError: the library refuses one of them.
        """
        context = self._new_context()
        context.error_recorder = self._recorder
        self._check(context.set_optimization_profile_async(profile, self.cuda.handle), f"profile {profile}")
        for name, shape in shapes.items():
            self._check(context.set_input_shape(name, shape), f"{name} of shape {list(shape)}")
        missing = context.infer_shapes()
        self._check(not missing, f"no shape for {', '.join(missing)}")
        self.set_scratch(context)
        for name, address in addresses.items():
            self._check(context.set_tensor_address(name, address), f"the address of {name}")
        return context

    def set_scratch(self, context: api.IExecutionContext) -> None:
        """Set a context's scratch memory; needed for a new context, and again after the memory moved."""
        context.set_device_memory(self.scratch.address, self.scratch.size)

    def enqueue(self, context: api.IExecutionContext) -> None:
        """Enqueue one run.

        Raises:
            DeviceError: the device failed earlier.
            EngineError: the library refused the run.
        """
        if not context.execute_async_v3(self.cuda.handle):
            messages = take_errors(self._recorder)
            # When the device is lost, this call raises its own error, which is more precise than TensorRT's.
            self.cuda.call("cudaMemGetInfo")
            raise DeviceError(
                f"the engine of graph {self.entry.graph!r} failed ({messages})",
                "a successful run",
                "see the log; rebuild the engine if it happens again",
            )

    def _new_context(self) -> api.IExecutionContext:
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self.entry.product == "tensorrt_rtx":
            # Compile a shape's kernels before it runs: a captured graph would keep the slow generic ones.
            rtx: RtxModule = self._trt  # type: ignore[assignment]
            config.dynamic_shapes_kernel_specialization_strategy = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        context = self._engine.create_execution_context(config)
        if context is None:
            raise self._fault("creates no execution context", "an execution context")
        return context

    def _list_edges(self, graph: Graph) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of inputs and outputs, after a check of their names, types and ranks against the manifest."""
        kinds = {
            self._trt.DataType.FLOAT: "float32",
            self._trt.DataType.INT64: "int64",
            self._trt.DataType.UINT8: "uint8",
        }
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        engine_edges = {
            name: f"{kinds.get(self._engine.get_tensor_dtype(name), 'another type')} of {len(self._engine.get_tensor_shape(name))} axes"
            for name in names
        }
        graph_edges = {edge.name: f"{edge.dtype} of {len(edge.shape)} axes" for edge in (*graph.inputs, *graph.outputs)}
        if engine_edges != graph_edges:
            raise EngineError(
                f"the engine {self.entry.file!r} has the edges {_format_edges(engine_edges)}",
                _format_edges(graph_edges),
                f"rebuild it: recipe {self.entry.recipe}",
            )
        is_input = {name: self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT for name in names}
        return tuple(name for name in names if is_input[name]), tuple(name for name in names if not is_input[name])

    def _check(self, is_done: bool, what: str) -> None:
        if not is_done:
            raise self._fault(f"refuses {what}", "a shape of its profiles")

    def _fault(self, what: str, expected: str) -> EngineError:
        return EngineError(
            f"the engine {self.entry.file!r} {what} ({take_errors(self._recorder)})",
            expected,
            f"rebuild it on this machine: recipe {self.entry.recipe}",
        )


def open_runtime(trt: RuntimeModule, logger: Any, product: Product) -> api.Runtime:
    """Create the library's runtime. The driver must have been probed: without one the object wraps a null pointer.

    Args:
        trt: The engine library's module.
        logger: A logger of `make_logger`.
        product: `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineError: the library cannot create it.
    """
    try:
        runtime = trt.Runtime(logger)
    except TypeError as fault:
        raise EngineError(
            f"{product} creates no runtime ({fault})",
            "a runtime, on a machine with a working driver",
            "update the NVIDIA driver",
        ) from fault
    # The exporter builds engines without host code: an engine that contains some was not built by it.
    runtime.engine_host_code_allowed = False
    return runtime


def _refit(trt: RuntimeModule, loaded: api.ICudaEngine, logger: Any, bundle: Bundle, engine: Engine) -> None:
    """Put the weights into an engine that was built without them, from copies that were hashed as they were written."""
    # The parser follows file names in the graph: they may only be those of the bundle's weights.
    read_graph_file(engine.source, bundle.read(engine.source), bundle.manifest.files)
    try:
        with TemporaryDirectory(prefix="alterbute-refit-") as folder:
            for name in (engine.source, *engine.weights):
                with (Path(folder) / name).open("wb") as file:
                    bundle.copy(name, file)
            refitter = trt.Refitter(loaded, logger)
            parser = trt.OnnxParserRefitter(refitter, logger)
            is_done = parser.refit_from_file(str(Path(folder) / engine.source)) and refitter.refit_cuda_engine()
    except OSError as fault:
        raise EngineError(
            f"the weights of the engine {engine.file!r} cannot be copied ({fault.strerror})",
            "room for them in the folder of temporary files",
            "set TMPDIR to a folder with more room",
        ) from None
    if not is_done:
        raise EngineError(
            f"the engine {engine.file!r} does not take the weights of {engine.source!r}",
            "the graph that it was built from",
            f"rebuild it: recipe {engine.recipe}",
        )


def _format_edges(edges: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in sorted(edges.items()))
