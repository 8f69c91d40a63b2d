"""What is used of TensorRT's builder, by the names that the library gives: the part that `tensorrt` and `tensorrt_rtx` share.

A name that is not here cannot be used (mypy says so), and a name that is here exists in the real bindings with these
parameters (a test says so). Classes are called as theirs; `module.py` is the module that holds them.
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
    """The shapes that a plan is good for."""

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None: ...


class IHostMemory(Protocol):
    """Bytes that the library owns."""

    @property
    def nbytes(self) -> int: ...


class ITimingCache(Protocol):
    """How long kernels took, remembered between builds."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """How to build."""

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
    """One thing that the parser did not understand."""

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
    """Tells what a plan became."""

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
    """What a memory limit is for."""

    WORKSPACE: object


class HardwareCompatibilityLevel(Protocol):
    """On which other GPUs a plan runs."""

    NONE: object
    AMPERE_PLUS: object
    SAME_COMPUTE_CAPABILITY: object


class ProfilingVerbosity(Protocol):
    """How much a plan tells of itself."""

    DETAILED: object


class LayerInformationFormat(Protocol):
    """How the inspector answers."""

    JSON: object


class LayerType(Protocol):
    """Kinds of layers: those that do the work."""

    CONVOLUTION: object
    DECONVOLUTION: object
    MATRIX_MULTIPLY: object


class DataType(Protocol):
    """Element types."""

    FLOAT: object
    HALF: object
    BF16: object
