"""The parts of TensorRT's runtime API that are used, under the library's names; for `tensorrt` and `tensorrt_rtx`.

mypy rejects the use of a name that is not here, and a test checks that every name here exists in the real bindings with
these parameters. `IRuntimeConfig` is the exception: its last two names are TensorRT-RTX's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class IRuntimeConfig(Protocol):
    """Settings of an execution context."""

    dynamic_shapes_kernel_specialization_strategy: object

    def set_execution_context_allocation_strategy(self, strategy: object) -> None: ...


class IExecutionContext(Protocol):
    """The shapes, addresses and scratch memory with which an engine runs."""

    error_recorder: object

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def infer_shapes(self) -> list[str]: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    """A loaded engine."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> object: ...
    def get_tensor_dtype(self, name: str) -> object: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...
    def create_execution_context(self, runtime_config: IRuntimeConfig) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """Loads engines from serialized bytes."""

    engine_host_code_allowed: bool
    error_recorder: object

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class Refitter(Protocol):
    """Sets the weights of an engine that was built without them."""

    def refit_cuda_engine(self) -> bool: ...


class OnnxParserRefitter(Protocol):
    """Reads those weights from an ONNX graph."""

    def refit_from_file(self, model: str) -> bool: ...


class ExecutionContextAllocationStrategy(Protocol):
    """How the scratch memory of a context is allocated."""

    USER_MANAGED: object


class DynamicShapesKernelSpecializationStrategy(Protocol):
    """TensorRT-RTX: when kernels for a shape are compiled."""

    EAGER: object


class TensorIOMode(Protocol):
    """Whether an edge of the engine is an input or an output."""

    INPUT: object
    OUTPUT: object


class DataType(Protocol):
    """Element types of inputs and outputs."""

    FLOAT: object
    INT64: object
    UINT8: object


class Severity(Protocol):
    """`ILogger.Severity`, most severe first."""

    INTERNAL_ERROR: object
    ERROR: object
    WARNING: object
    INFO: object
    VERBOSE: object
