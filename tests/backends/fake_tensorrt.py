"""A stand-in for TensorRT: plans name a graph, contexts read and write the addresses they were given, calls are kept.

What a plan computes is asked of another backend, so an edit through all of it can be compared with an edit without it.
Every class has the names of `tensorrt_api` and no others: a name that the library lacks is an AttributeError here, too.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from alterbute.backends import Array, Backend
from alterbute.bundle import Engine, Manifest

from tests.backends.fake_cuda import FakeCuda

SCRATCH: dict[str, int] = {"step": 1 << 16}


class FakeTensorRt:
    """The module. `calls` holds (object, method, arguments) in order; `broken` names what refuses."""

    __version__ = "11.4.0.106"

    class ILogger:
        class Severity:
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class IErrorRecorder:
        pass

    class ExecutionContextAllocationStrategy:
        STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)

    class DynamicShapesKernelSpecializationStrategy:
        LAZY, EAGER, NONE = range(3)

    class TensorIOMode:
        NONE, INPUT, OUTPUT = range(3)

    class DataType:
        FLOAT, HALF, INT64, UINT8 = range(4)

    def __init__(self, cuda: FakeCuda, manifest: Manifest, reference: Backend) -> None:
        self.cuda, self.manifest, self.reference = cuda, manifest, reference
        self.calls: list[tuple[str, str, Any]] = []
        self.broken: set[str] = set()
        self.seen_bytes: list[bytes] = []
        self.engines = {engine.file: engine for engine in manifest.engines}

    def note(self, owner: str, method: str, *arguments: Any) -> None:
        self.calls.append((owner, method, arguments))

    def count(self, method: str, owner: str = "") -> int:
        return sum(call[1] == method and call[0].startswith(owner) for call in self.calls)

    def Runtime(self, logger: object) -> FakeRuntime:
        self.note("module", "Runtime")
        if "Runtime" in self.broken:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return FakeRuntime(self)

    def Refitter(self, engine: FakeEngine, logger: object) -> FakeRefitter:
        return FakeRefitter(self, engine)

    def OnnxParserRefitter(self, refitter: FakeRefitter, logger: object) -> FakeParserRefitter:
        return FakeParserRefitter(self, refitter)


class FakeRuntime:
    __slots__ = ("_trt", "engine_host_code_allowed", "error_recorder")

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self.engine_host_code_allowed = True
        self.error_recorder: Any = None

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        assert isinstance(serialized_engine, bytes)
        assert self.engine_host_code_allowed is False, "host code was not forbidden"
        self._trt.seen_bytes.append(serialized_engine)
        # A placeholder of `write_engines`: "plan of GRAPH (a placeholder)".
        graph = serialized_engine.split()[2].decode()
        self._trt.note("runtime", "deserialize_cuda_engine", graph)
        if f"deserialize {graph}" in self._trt.broken:
            self.error_recorder.report_error(3, "the plan is of another version")
            return None
        return FakeEngine(self._trt, graph, self.error_recorder)


class FakeEngine:
    def __init__(self, trt: FakeTensorRt, graph: str, recorder: Any) -> None:
        self._trt, self._graph, self._recorder = trt, graph, recorder
        self.has_weights = True
        edges = trt.manifest.graphs[graph]
        self._edges = {edge.name: edge for edge in (*edges.inputs, *edges.outputs)}
        self._num_inputs = len(edges.inputs)

    @property
    def num_io_tensors(self) -> int:
        return len(self._edges)

    @property
    def device_memory_size_v2(self) -> int:
        return SCRATCH.get(self._graph, 1024)

    @property
    def _entry(self) -> Engine:
        return next(engine for engine in self._trt.manifest.engines if engine.graph == self._graph)

    def get_tensor_name(self, index: int) -> str:
        return list(self._edges)[index]

    def get_tensor_mode(self, name: str) -> object:
        modes = self._trt.TensorIOMode
        return modes.INPUT if list(self._edges).index(name) < self._num_inputs else modes.OUTPUT

    def get_tensor_shape(self, name: str) -> list[int]:
        return [axis if isinstance(axis, int) else -1 for axis in self._edges[name].shape]

    def get_tensor_dtype(self, name: str) -> object:
        kinds = self._trt.DataType
        if f"half {name}" in self._trt.broken:
            return kinds.HALF
        return {"float32": kinds.FLOAT, "int64": kinds.INT64, "uint8": kinds.UINT8}[self._edges[name].dtype]

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig(self._trt)

    def create_execution_context(self, runtime_config: FakeRuntimeConfig) -> FakeContext | None:
        self._trt.note(self._graph, "create_execution_context", runtime_config.strategy)
        return FakeContext(self._trt, self, self._graph)


class FakeRuntimeConfig:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.strategy: object = trt.ExecutionContextAllocationStrategy.STATIC
        self.dynamic_shapes_kernel_specialization_strategy: object = None

    def set_execution_context_allocation_strategy(self, strategy: object) -> None:
        self.strategy = strategy


class FakeContext:
    def __init__(self, trt: FakeTensorRt, engine: FakeEngine, graph: str) -> None:
        self._trt, self._engine, self._graph = trt, engine, graph
        self._id = f"{graph} context {sum(call[1] == 'create_execution_context' for call in trt.calls)}"
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)
        self._profile = -1
        self.error_recorder: Any = None

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._trt.note(self._id, "set_optimization_profile_async", profile_index)
        self._profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._trt.note(self._id, "set_input_shape", name, shape)
        allowed = self._engine._entry.profiles[self._profile][name]
        self._shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(allowed.min, shape, allowed.max, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._trt.note(self._id, "set_tensor_address", name, memory)
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        self._trt.note(self._id, "set_device_memory", memory, size)
        self._memory = (memory, size)

    def get_tensor_shape(self, name: str) -> list[int]:
        if name in self._shapes:
            return list(self._shapes[name])
        edge = next(edge for edge in self._trt.manifest.graphs[self._graph].outputs if edge.name == name)
        return [self._size(axis) if isinstance(axis, str) else axis for axis in edge.shape]

    def infer_shapes(self) -> list[str]:
        return [edge.name for edge in self._trt.manifest.graphs[self._graph].inputs if edge.name not in self._shapes]

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda = self._trt.cuda
        self._trt.note(self._id, "execute_async_v3", cuda.capturing is not None)
        if f"execute {self._graph}" in self._trt.broken:
            self.error_recorder.report_error(7, "the kernel did not start")
            return False
        if f"capture {self._graph}" in self._trt.broken and cuda.capturing is not None:
            self.error_recorder.report_error(7, "this layer cannot be captured")
            return False
        needed = self._engine.device_memory_size_v2
        assert self._memory[0] in cuda.memory and self._memory[1] >= needed, "no scratch memory"
        addresses = dict(self._addresses)
        cuda.enqueue(lambda: self._compute(addresses))
        return True

    def _compute(self, addresses: dict[str, int]) -> None:
        assert self._engine.has_weights, "a stripped plan runs without its weights"
        graph = self._trt.manifest.graphs[self._graph]
        inputs = {edge.name: self._view(edge.name, edge.dtype, addresses).copy() for edge in graph.inputs}
        found = self._trt.reference.run(self._graph, inputs)
        for edge in graph.outputs:
            self._view(edge.name, edge.dtype, addresses)[...] = found[edge.name]

    def _view(self, name: str, dtype: str, addresses: dict[str, int]) -> Array:
        shape = tuple(self.get_tensor_shape(name))
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        owner = next(
            base
            for base, buffer in self._trt.cuda.memory.items()
            if base <= addresses[name] and addresses[name] + size <= base + len(buffer)
        )
        assert owner, f"{name} is outside device memory"
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(addresses[name])).view(dtype).reshape(shape)

    def _size(self, axis: str) -> int:
        for edge in self._trt.manifest.graphs[self._graph].inputs:
            if axis in edge.shape:
                return self._shapes[edge.name][edge.shape.index(axis)]
        # What is left is a picture's side of a latent's, or the other way round.
        factor = self._trt.manifest.latent_factor
        return self._size("h") * factor if axis == "S" else self._size("S") // factor


class FakeRefitter:
    def __init__(self, trt: FakeTensorRt, engine: FakeEngine) -> None:
        self._trt, self.engine = trt, engine

    def refit_cuda_engine(self) -> bool:
        self._trt.note("refitter", "refit_cuda_engine")
        self.engine.has_weights = "refit" not in self._trt.broken
        return self.engine.has_weights


class FakeParserRefitter:
    def __init__(self, trt: FakeTensorRt, refitter: FakeRefitter) -> None:
        self._trt, self._refitter = trt, refitter

    def refit_from_file(self, model: str) -> bool:
        self._trt.note("refitter", "refit_from_file", model)
        return "refit" not in self._trt.broken
