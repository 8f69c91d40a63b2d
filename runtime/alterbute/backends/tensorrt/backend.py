"""TensorRT and TensorRT-RTX: prebuilt engines on one GPU, all from verified bytes, on one stream.

The two image graphs run on ONNX Runtime's CPU provider, so that all backends give the same pixels.
"""

from __future__ import annotations

import math
from threading import RLock
from typing import Any

import numpy as np

from alterbute.backends.base import HOST_GRAPHS, Array, Arrays, Backend, copy_outputs
from alterbute.backends.cuda.device_step_state import DeviceStepState
from alterbute.backends.cuda.runtime import Cuda, CudaApi
from alterbute.backends.cuda.upload_ring import UploadRing
from alterbute.backends.step_state import StepState
from alterbute.backends.tensorrt.cuda_graph import CudaGraph
from alterbute.backends.tensorrt.engine import LoadedEngine, ScratchMemory, open_runtime
from alterbute.backends.tensorrt.module import RuntimeModule, make_logger
from alterbute.bundle import Bundle, Engine, Product
from alterbute.errors import DeviceError, EngineError


class TensorRtBackend:
    """Prebuilt engines on one GPU; implements `alterbute.backends.DeviceBackend`.

    Args:
        bundle: The bundle, signed by a trusted key or explicitly accepted without.
        product: `tensorrt` or `tensorrt_rtx`.
        engines: One engine for each graph but the image graphs, accepted by `choose_engines` for this machine.
        trt: That library's module; the driver was probed before it was imported.
        cuda_api: `cuda.bindings.runtime`.
        host: The backend that runs the image graphs (`HOST_GRAPHS`).
        device: Index of the GPU.
    """

    # Any launch is padded to the shape of a bucket.
    min_slots: int = 1
    min_rows: int = 1

    def __init__(
        self,
        bundle: Bundle,
        product: Product,
        engines: dict[str, Engine],
        *,
        trt: RuntimeModule,
        cuda_api: CudaApi,
        host: Backend,
        device: int = 0,
    ) -> None:
        self._bundle, self._host = bundle, host
        self.precisions = {**host.precisions, **{graph: engine.precision for graph, engine in engines.items()}}
        self._lock = RLock()
        self._cuda = Cuda(cuda_api, device)
        self._check_memory(engines)
        # All engine files are verified before the first is loaded: the library reads no byte of a bundle with a wrong one.
        files = {graph: bundle.read(engine.file) for graph, engine in engines.items()}
        self._logger = make_logger(trt)
        self._runtime = open_runtime(trt, self._logger, product)
        self._scratch = ScratchMemory(self._cuda)
        # Scratch memory has its final size before the first context: addresses are set once.
        self._engines = {
            graph: LoadedEngine(
                trt, self._runtime, self._logger, self._cuda, self._scratch, bundle, engine, files.pop(graph)
            )
            for graph, engine in engines.items()
        }
        self._runners = {graph: _Runner(engine, bundle) for graph, engine in self._engines.items() if graph != "step"}
        self._steps: list[DeviceStepState] = []

    @property
    def cuda(self) -> Cuda:
        """The device and the stream that every engine runs on, for timing and for work on the same stream."""
        return self._cuda

    def open_step_state(self, state: tuple[int, ...]) -> StepState:
        """Allocate the state [slots,K,C,h,w] and input buffers of the step graph on the device."""
        with self._lock:
            steps = self._make_step_state(state)
            self._steps.append(steps)
        return steps

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph once, and wait for its outputs.

        Args:
            graph: A name of the manifest's `graphs`.
            inputs: Every input of the graph by name, C-contiguous, with the dtypes of the manifest.
            outputs: Arrays to write results into, by output name; an output that is not named here is newly allocated.

        Returns:
            Every output by name.

        Raises:
            EngineError: no profile holds the inputs.
            DeviceError: the engine or the device failed.
        """
        if graph in HOST_GRAPHS:
            return self._host.run(graph, inputs, outputs)
        with self._lock:
            results = self._run_step(inputs) if graph == "step" else self._runners[graph].run(inputs)
        return copy_outputs(results, outputs)

    def close(self) -> None:
        """Free the engines and device memory; memory of a lost device is already gone."""
        with self._lock:
            try:
                parts: list[DeviceStepState | _Runner] = [*self._steps, *self._runners.values()]
                for part in parts:
                    part.close()
                self._scratch.close()
                self._cuda.call("cudaStreamDestroy", self._cuda.stream)
            except DeviceError as fault:
                if not fault.is_fatal:
                    raise
            self._steps.clear()
            self._runners.clear()
            self._engines.clear()
        self._host.close()

    def _make_step_state(self, state: tuple[int, ...]) -> DeviceStepState:
        engine = self._engines["step"]
        return DeviceStepState(
            self._cuda,
            self._bundle.manifest.graphs["step"].inputs,
            engine.outputs[0],
            profiles=engine.entry.profiles,
            state=state,
            make_launch=lambda profile, shapes, addresses: CudaGraph(
                engine, engine.make_context(profile, shapes, addresses)
            ),
            lock=self._lock,
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
        free = self._cuda.free_bytes()
        if needed > free:
            raise EngineError(
                f"the bundle's engines have {needed / 1e6:.0f} MB and the GPU has {free / 1e6:.0f} MB free",
                "room for them",
                "free the GPU, or use a smaller bundle",
            )


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
