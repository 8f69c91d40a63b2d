"""Protocols of TensorRT's builder: the names of the part that `tensorrt` and `tensorrt_rtx` share, as far as they are used.

mypy refuses every name that is not here, and a test compares the names and parameters with the real bindings. Classes have the
library's names; `module.py` is the protocol of the module that holds them.
"""

from __future__ import annotations

from typing import Protocol


class Severity(Protocol):
    """`ILogger.Severity`."""

    VERBOSE: object
    INFO: object
    WARNING: object
    ERROR: object
    INTERNAL_ERROR: object


class ITensor(Protocol):
    """An input, output or inner tensor of a network."""

    @property
    def name(self) -> str: ...


class ILayer(Protocol):
    """One layer of a network."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> object: ...
    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    def get_output_type(self, index: int) -> object: ...


class INetworkDefinition(Protocol):
    """A parsed graph."""

    @property
    def num_inputs(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    def get_input(self, index: int) -> ITensor: ...
    def get_layer(self, index: int) -> ILayer: ...


class IOptimizationProfile(Protocol):
    """Ranges of input shapes that a plan supports."""

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None: ...


class IHostMemory(Protocol):
    """A buffer that the library owns."""

    @property
    def nbytes(self) -> int: ...


class ITimingCache(Protocol):
    """Measured times of kernels, kept between builds."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """Settings of one build."""

    builder_optimization_level: int
    max_aux_streams: int
    progress_monitor: object
    hardware_compatibility_level: object
    profiling_verbosity: object

    def set_flag(self, flag: object) -> None: ...
    def clear_flag(self, flag: object) -> None: ...
    def set_memory_pool_limit(self, pool: object, pool_size: int) -> None: ...
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache: ...
    def get_timing_cache(self) -> ITimingCache: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...


class Builder(Protocol):
    """Makes networks, profiles and plans."""

    def create_network(self, flags: int = 0) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class ParserError(Protocol):
    """One error of the parser."""

    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Reads ONNX into a network."""

    @property
    def num_errors(self) -> int: ...
    def parse(self, model: bytes, path: str | None = None) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class EngineInspector(Protocol):
    """Reports the layers of a plan."""

    def get_engine_information(self, format: object) -> str: ...


class ICudaEngine(Protocol):
    """A loaded plan."""

    @property
    def device_memory_size_v2(self) -> int: ...
    def create_engine_inspector(self) -> EngineInspector: ...


class Runtime(Protocol):
    """Loads plans."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class BuilderFlag(Protocol):
    """Switches of the builder."""

    TF32: object
    STRIP_PLAN: object
    REFIT_IDENTICAL: object
    DISTRIBUTIVE_INDEPENDENCE: object


class MemoryPoolType(Protocol):
    """Kinds of memory that a limit can be set for."""

    WORKSPACE: object


class HardwareCompatibilityLevel(Protocol):
    """GPUs that a plan runs on besides the one it was built on."""

    NONE: object
    AMPERE_PLUS: object
    SAME_COMPUTE_CAPABILITY: object


class ProfilingVerbosity(Protocol):
    """How much the inspector can report about a plan."""

    DETAILED: object


class LayerInformationFormat(Protocol):
    """Formats of the inspector's report."""

    JSON: object


class LayerType(Protocol):
    """Kinds of layers that have nearly all the arithmetic."""

    CONVOLUTION: object
    DECONVOLUTION: object
    MATRIX_MULTIPLY: object


class DataType(Protocol):
    """Element types."""

    FLOAT: object
    HALF: object
    BF16: object
