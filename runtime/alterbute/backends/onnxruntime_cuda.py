"""ONNX Runtime on an NVIDIA GPU, for machines or bundles without TensorRT engines. State and inputs stay on the device.

Sessions run on this backend's own CUDA stream, so uploads, launches and reads keep their order without waiting. The step
session captures one CUDA graph per launch shape and direction, each with an annotation id of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from threading import RLock
from typing import Any, Final

import numpy as np

from alterbute.backends.base import HOST_GRAPHS, Arrays, Backend, copy_outputs
from alterbute.backends.cuda.device_step_state import DeviceStepState, Launch
from alterbute.backends.cuda.runtime import Cuda, CudaApi
from alterbute.backends.step_state import StepState
from alterbute.bundle import WEIGHTS_FILE, Bundle, ShapeRange, TensorSpec, Variant
from alterbute.errors import BundleError, DeviceError, EngineError

PROVIDER: Final = "CUDAExecutionProvider"
_ROWS_PER_SLOT: Final = 3
_BACKENDS: Final = ("onnxruntime-cuda", "onnxruntime")
_PREFERRED: Final = ("fp16", "bf16", "fp32")
_NUMPY: Final[dict[str, Any]] = {"float32": np.float32, "int64": np.int64, "uint8": np.uint8}


class OnnxRuntimeCudaBackend:
    """A bundle's graphs on ONNX Runtime's CUDA execution provider; implements `alterbute.backends.DeviceBackend`.

    Args:
        bundle: The bundle; half-precision variants are preferred.
        ort: The module `onnxruntime`.
        cuda_api: `cuda.bindings.runtime`.
        host: The backend that runs the image graphs (`HOST_GRAPHS`).
        device: Index of the GPU.
        provider: Name of the execution provider; tests pass the CPU's.
        kind: Device type of bound memory in ONNX Runtime's terms.
    """

    # cuDNN and cuBLAS choose kernels by shape: no minimum makes results independent of the launch.
    min_slots: int = 1
    min_rows: int = 1

    def __init__(
        self,
        bundle: Bundle,
        *,
        ort: Any,
        cuda_api: CudaApi,
        host: Backend,
        device: int = 0,
        provider: str = PROVIDER,
        kind: str = "cuda",
    ) -> None:
        self._bundle, self._ort, self._host = bundle, ort, host
        self._device, self._kind, self._provider = device, kind, provider
        self._lock = RLock()
        self._cuda = Cuda(cuda_api, device)
        self._annotations = itertools.count(1)
        weights = _read_weights(bundle)
        names = [name for name in bundle.manifest.graphs if name not in HOST_GRAPHS]
        self.precisions = {**host.precisions, **{name: _choose_variant(bundle, name).precision for name in names}}
        self._sessions = {name: self._make_session(name, weights) for name in names}
        self._steps: list[DeviceStepState] = []

    @property
    def cuda(self) -> Cuda:
        """The device and the stream that every graph runs on, for timing and for work on the same stream."""
        return self._cuda

    def open_step_state(self, state: tuple[int, ...]) -> StepState:
        """Allocate the state [slots,K,C,h,w] and input buffers of the step graph on the device."""
        graph = self._bundle.manifest.graphs["step"]
        with self._lock:
            steps = DeviceStepState(
                self._cuda,
                graph.inputs,
                graph.outputs[0].name,
                profiles=(_free_profile(self._bundle, graph.inputs, state),),
                state=state,
                make_launch=self._make_launch,
                lock=self._lock,
                fix="open it with another resolution",
            )
            self._steps.append(steps)
        return steps

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Any]:
        """Run a graph once, and wait for its outputs.

        Args:
            graph: A name of the manifest's `graphs`.
            inputs: Every input of the graph by name, C-contiguous, with the dtypes of the manifest.
            outputs: Arrays to write results into, by output name; an output that is not named here is newly allocated.

        Returns:
            Every output by name.

        Raises:
            DeviceError: the graph failed, or the device is lost.
        """
        if graph in HOST_GRAPHS:
            return self._host.run(graph, inputs, outputs)
        session = self._sessions[graph]
        names = [edge.name for edge in session.get_outputs()]
        options = self._ort.RunOptions()
        # -1: this run is not captured; its addresses change from call to call.
        options.add_run_config_entry("gpu_graph_id", "-1")
        with self._lock:
            try:
                results = dict(zip(names, session.run(names, dict(inputs), options), strict=True))
            except Exception as fault:
                raise self._fault(graph, fault) from fault
        return copy_outputs(results, outputs)

    def close(self) -> None:
        """Free the sessions and device memory; memory of a lost device is already gone."""
        with self._lock:
            try:
                for steps in self._steps:
                    steps.close()
                self._sessions.clear()
                self._cuda.call("cudaStreamDestroy", self._cuda.stream)
            except DeviceError as fault:
                if not fault.is_fatal:
                    raise
            self._steps.clear()
            self._sessions.clear()
        self._host.close()

    def _make_session(self, graph: str, weights: Mapping[str, bytes]) -> Any:
        model = self._bundle.read(_choose_variant(self._bundle, graph).file)
        options = self._ort.SessionOptions()
        options.log_severity_level = 3
        files = list(weights)
        options.add_external_initializers_from_files_in_memory(
            files, [weights[name] for name in files], [len(weights[name]) for name in files]
        )
        try:
            return self._ort.InferenceSession(
                model, options, providers=[(self._provider, self._provider_options(graph))]
            )
        except Exception as fault:
            raise EngineError(
                f"ONNX Runtime cannot load the graph {graph!r} on the GPU ({_first_line(fault)})",
                "a graph that this version of ONNX Runtime supports",
                "upgrade onnxruntime-gpu, or export the bundle again",
            ) from fault

    def _provider_options(self, graph: str) -> dict[str, str]:
        if self._provider != PROVIDER:
            return {}
        return {
            "device_id": str(self._device),
            "user_compute_stream": str(self._cuda.handle),
            # Only the step graph runs with fixed addresses.
            "enable_cuda_graph": "1" if graph == "step" else "0",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            # Few operators stay fp32: without TF32 they take no measurably longer.
            "use_tf32": "0",
        }

    def _make_launch(self, profile: int, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> Launch:
        graph = self._bundle.manifest.graphs["step"]
        binding = self._sessions["step"].io_binding()
        for edge in graph.inputs:
            binding.bind_input(
                edge.name, self._kind, self._device, _NUMPY[edge.dtype], shapes[edge.name], addresses[edge.name]
            )
        output = graph.outputs[0]
        binding.bind_output(output.name, self._kind, self._device, np.float32, shapes["state"], addresses[output.name])
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(next(self._annotations)))
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return _BoundLaunch(self, binding, options)

    def launch(self, binding: Any, options: Any) -> None:
        """Enqueue the step graph over bound memory; the session captures it at the first call and replays it afterwards."""
        try:
            self._sessions["step"].run_with_iobinding(binding, options)
        except Exception as fault:
            raise self._fault("step", fault) from fault

    def _fault(self, graph: str, fault: Exception) -> EngineError:
        # When the device is lost, this call raises its own error, which is more precise than ONNX Runtime's.
        self._cuda.call("cudaMemGetInfo")
        return DeviceError(
            f"the graph {graph!r} failed in ONNX Runtime ({_first_line(fault)})",
            "a run with the manifest's shapes",
            "verify the bundle with `alterbute verify`, or export it again",
        )


class _BoundLaunch:
    """A launch of the step graph over fixed addresses."""

    def __init__(self, backend: OnnxRuntimeCudaBackend, binding: Any, options: Any) -> None:
        self._backend, self._binding, self._options = backend, binding, options

    def launch(self) -> None:
        self._backend.launch(self._binding, self._options)

    def close(self) -> None:
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()


def _free_profile(bundle: Bundle, inputs: tuple[TensorSpec, ...], state: tuple[int, ...]) -> dict[str, ShapeRange]:
    """One profile that holds every launch up to the lane's number of slots: sessions accept any shape."""
    largest = {
        "B": state[0],
        "N": state[0] * _ROWS_PER_SLOT,
        "h": state[-2],
        "w": state[-1],
        "T": bundle.manifest.text.tokens,
    }
    smallest = {**largest, "B": 1, "N": 1}
    profile = {}
    for edge in inputs:
        low, high = (
            tuple(sizes[axis] if isinstance(axis, str) else axis for axis in edge.shape)
            for sizes in (smallest, largest)
        )
        profile[edge.name] = ShapeRange(min=low, opt=high, max=high)
    return profile


def _choose_variant(bundle: Bundle, graph: str) -> Variant:
    """The graph's variant for this provider: half precision where there is one, else the fp32 variant."""
    variants = bundle.manifest.graphs[graph].variants
    for backend in _BACKENDS:
        fitting = [variant for variant in variants if variant.backend == backend]
        if fitting:
            return min(fitting, key=lambda variant: _PREFERRED.index(variant.precision))
    raise BundleError(
        f"the bundle's graph {graph!r} is for {', '.join(variant.backend for variant in variants)}",
        f"a variant for {' or '.join(_BACKENDS)}",
        "export the bundle again",
    )


def _read_weights(bundle: Bundle) -> dict[str, bytes]:
    """Bytes of every external data file, by name; a session with such a table reads nothing else from disk."""
    names = [name for name in bundle.manifest.files if name.startswith("weights") and name.endswith(".bin")]
    return {name: bundle.read(name) for name in names} or {WEIGHTS_FILE: b""}


def _first_line(fault: Exception) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
