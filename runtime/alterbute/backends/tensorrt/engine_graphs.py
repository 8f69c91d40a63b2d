"""A bundle's prebuilt engines on one GPU, all from verified bytes, on one stream; for the device's thread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from alterbute.backends.base import Array, Arrays
from alterbute.backends.cuda.device_step_state import DeviceStepState
from alterbute.backends.cuda.device_thread import DeviceThread
from alterbute.backends.cuda.runtime import Cuda, CudaApi, free_all, no_memory
from alterbute.backends.cuda.upload_ring import UploadRing
from alterbute.backends.run_check import check_outputs
from alterbute.backends.tensorrt import api
from alterbute.backends.tensorrt.cuda_graph import CudaGraph
from alterbute.backends.tensorrt.engine import LoadedEngine, ScratchMemory, open_runtime
from alterbute.backends.tensorrt.module import RuntimeModule, make_logger
from alterbute.bundle import Bundle, Engine, Product
from alterbute.errors import DeviceError, EngineError


class EngineGraphs:
    """Engines of every graph but the image graphs; implements `alterbute.backends.cuda.threaded_backend.DeviceGraphs`.

    Args:
        bundle: The bundle.
        product: `tensorrt` or `tensorrt_rtx`.
        engines: One engine per graph.
        trt: The library's module.
        cuda_api: `cuda.bindings.runtime`.
        thread: The device's thread, on which this object is made and used.
        device: Index of the GPU.
    """

    def __init__(
        self,
        bundle: Bundle,
        product: Product,
        engines: dict[str, Engine],
        *,
        trt: RuntimeModule,
        cuda_api: CudaApi,
        thread: DeviceThread,
        device: int,
    ) -> None:
        self._bundle, self._thread = bundle, thread
        self.precisions = {graph: engine.precision for graph, engine in engines.items()}
        self._steps: list[DeviceStepState] = []
        self._runners: dict[str, _Runner] = {}
        self._engines: dict[str, LoadedEngine] = {}
        self._runtime: api.Runtime | None = None
        self._logger: Any = None
        self.cuda = Cuda(cuda_api, device)
        self._scratch = ScratchMemory(self.cuda)
        try:
            self._load(product, engines, trt)
        except BaseException:
            self._free()
            raise

    def open_step_state(self, state: tuple[int, ...]) -> DeviceStepState:
        """Allocate the state [slots,K,C,h,w] and input buffers of the step graph on the device."""
        steps = self._make_step_state(state)
        self._steps.append(steps)
        return steps

    def run(self, graph: str, inputs: Arrays) -> dict[str, Array]:
        """Run a graph once, and wait for its outputs.

        Raises:
            EngineError: no profile holds the inputs.
            DeviceError: the engine or the device failed.
            BundleError: an output is not what the manifest lists.
        """
        results = self._run_step(inputs) if graph == "step" else self._runners[graph].run(inputs)
        check_outputs(graph, self._bundle.manifest, inputs, results)
        return results

    def close(self) -> None:
        """Free the engines and device memory.

        Raises:
            DeviceError: the device failed; what can be freed is freed all the same.
        """
        fault = self._free()
        if fault is not None:
            raise fault

    def _load(self, product: Product, engines: dict[str, Engine], trt: RuntimeModule) -> None:
        self._check_memory(engines)
        # All engine files are verified before the first is loaded: the library reads no byte of a bundle with a wrong one.
        files = {graph: self._bundle.read(engine.file) for graph, engine in engines.items()}
        self._logger = make_logger(trt)
        self._runtime = runtime = open_runtime(trt, self._logger, product)
        for graph, engine in engines.items():
            self._engines[graph] = LoadedEngine(
                trt, runtime, self._logger, self.cuda, self._scratch, self._bundle, engine, files.pop(graph)
            )
        # Scratch memory has its final size before the first context: addresses are set once.
        for graph, loaded in self._engines.items():
            if graph != "step":
                self._runners[graph] = _Runner(loaded, self._bundle)

    def _free(self) -> DeviceError | None:
        """Free everything; returns the first error that is not the loss of the device, which freed the memory itself."""
        parts: list[DeviceStepState | _Runner] = [*self._steps, *self._runners.values()]

        def free_engines() -> None:
            self._engines.clear()
            self._runtime = self._logger = None

        # Engines and the library's runtime are freed here, on the device's thread, and not by the thread that drops this object.
        fault = free_all(*(part.close for part in parts), self._scratch.close, free_engines, self.cuda.close)
        self._steps.clear()
        self._runners.clear()
        return fault

    def _make_step_state(self, state: tuple[int, ...]) -> DeviceStepState:
        engine = self._engines["step"]
        return DeviceStepState(
            self.cuda,
            self._bundle.manifest.graphs["step"].inputs,
            engine.outputs[0],
            profiles=engine.entry.profiles,
            state=state,
            make_launch=lambda profile, shapes, addresses: CudaGraph(
                engine, engine.make_context(profile, shapes, addresses)
            ),
            thread=self._thread,
            fix=f"add a bucket to recipe {engine.entry.recipe} and rebuild it",
        )

    def _run_step(self, inputs: Arrays) -> dict[str, Array]:
        """Run one step from host state to host state, for parity checks; a lane uses `open_step_state`."""
        state = inputs["state"]
        steps = self._make_step_state(state.shape)
        try:
            for slot, value in enumerate(state):
                steps.write_slot(slot, value)
            rest = {name: array for name, array in inputs.items() if name != "state"}
            steps.launch(rest, rest.keys())
            steps.flip()
            return {
                self._engines["step"].outputs[0]: np.stack([steps.last_states(slot)[1] for slot in range(len(state))])
            }
        finally:
            steps.close()

    def _check_memory(self, engines: dict[str, Engine]) -> None:
        """Refuse engines that need more device memory than is free, before any is loaded."""
        needed = sum(self._bundle.manifest.files[engine.file].size for engine in engines.values())
        free = self.cuda.free_bytes()
        if needed > free:
            raise no_memory(f"the bundle's engines of {needed / 1e6:.0f} MB", f"{free / 1e6:.0f} MB are free")


class _Runner:
    """One graph other than the step: buffers for its largest shape, and a context per input shape."""

    def __init__(self, engine: LoadedEngine, bundle: Bundle) -> None:
        self._engine, self._cuda = engine, engine.cuda
        self._generation = engine.scratch.generation
        graph = bundle.manifest.graphs[engine.entry.graph]
        self._inputs = {edge.name: edge for edge in graph.inputs}
        self._outputs = {edge.name: edge for edge in graph.outputs}
        self._contexts: dict[tuple[tuple[int, ...], ...], tuple[Any, dict[str, tuple[int, ...]]]] = {}
        largest = {
            name: math.prod(max(profile[name].max for profile in engine.entry.profiles)) * np.dtype(edge.dtype).itemsize
            for name, edge in self._inputs.items()
        }
        self._buffers = {name: self._cuda.allocate(size) for name, size in largest.items()}
        self._results: dict[str, tuple[int, Array]] = {}
        self._ring = UploadRing(self._cuda, size=sum(largest.values()) + 256 * len(largest), depth=1)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Upload the inputs, run the engine, download the outputs and wait."""
        shapes = tuple(inputs[name].shape for name in self._inputs)
        if shapes not in self._contexts:
            self._contexts[shapes] = self._make_context(dict(zip(self._inputs, shapes, strict=True)))
        if self._generation != self._engine.scratch.generation:
            for context, _ in self._contexts.values():
                self._engine.set_scratch(context)
            self._generation = self._engine.scratch.generation
        context, results = self._contexts[shapes]
        self._ring.send([(self._buffers[name], inputs[name], inputs[name].nbytes) for name in self._inputs])
        self._engine.enqueue(context)
        downloads = {}
        for name, shape in results.items():
            edge, (address, pinned) = self._outputs[name], self._results[name]
            size = math.prod(shape) * np.dtype(edge.dtype).itemsize
            self._cuda.download(pinned[:size], address)
            downloads[name] = (pinned[:size], edge.dtype, shape)
        self._cuda.synchronize()
        return {name: array.view(dtype).reshape(shape).copy() for name, (array, dtype, shape) in downloads.items()}

    def close(self) -> None:
        self._contexts.clear()
        self._ring.close()
        for address in self._buffers.values():
            self._cuda.free(address)
        for address, pinned in self._results.values():
            self._cuda.free(address)
            self._cuda.free_pinned(pinned)

    def _make_context(self, shapes: dict[str, tuple[int, ...]]) -> tuple[Any, dict[str, tuple[int, ...]]]:
        profile = self._engine.find_profile(
            lambda ranges: all(_is_within(shape, ranges[name].min, ranges[name].max) for name, shape in shapes.items())
        )
        if profile < 0:
            entry = self._engine.entry
            ranges = [item for profile in entry.profiles for item in profile.items()]
            raise EngineError(
                f"the inputs of graph {entry.graph!r} are "
                + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()),
                "; ".join(f"{name} {list(shape.min)}..{list(shape.max)}" for name, shape in ranges),
                f"rebuild it with other shapes: recipe {entry.recipe}",
            )
        context = self._engine.make_context(profile, shapes, self._buffers)
        results = {name: tuple(int(size) for size in context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in results.items():
            self._grow_output(name, math.prod(shape) * np.dtype(self._outputs[name].dtype).itemsize)
            context.set_tensor_address(name, self._results[name][0])
        return context, results

    def _grow_output(self, name: str, size: int) -> None:
        """Grow an output's buffers to this many bytes; contexts made before hold the old address and are made again."""
        if name in self._results and len(self._results[name][1]) >= size:
            return
        if name in self._results:
            self._cuda.synchronize()
            self._contexts.clear()
            self._cuda.free(self._results[name][0])
            self._cuda.free_pinned(self._results[name][1])
        self._results[name] = (self._cuda.allocate(size), self._cuda.allocate_pinned(size))


def _is_within(shape: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]) -> bool:
    return len(shape) == len(low) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
