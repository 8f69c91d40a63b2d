"""A session of ONNX Runtime on one GPU: created from bytes, checked to be on that GPU, with typed errors only."""

from __future__ import annotations

import ctypes
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from alterbute.backends.base import Array, Arrays, first_line
from alterbute.backends.cuda.libraries import CUDA_PROVIDER
from alterbute.backends.cuda.runtime import Cuda
from alterbute.errors import DeviceError, EngineError

NO_CAPTURE: Final = -1
"""The graph annotation of a run that is not captured."""
_NUMPY: Final[dict[str, Any]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTensor:
    """An input or output in device memory: its address, shape and numpy type."""

    address: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlace:
    """Where sessions run: ONNX Runtime's module and names, the GPU, and the stream that all share."""

    ort: Any
    provider: str
    kind: str
    device: int
    cuda: Cuda


class GpuSession:
    """One graph on one GPU, used by the device's thread alone.

    Args:
        place: Where it runs.
        graph: Name of the graph, for errors.
        model: The graph's verified bytes.
        weights: Verified bytes of the external data files, by name; the session reads nothing else from disk.
        is_captured: Whether runs over bound memory may be captured as CUDA graphs.

    Raises:
        EngineError: ONNX Runtime does not load the graph, or not on the GPU.
        DeviceError: the GPU has no memory left, or is lost.
    """

    def __init__(
        self, place: GpuPlace, graph: str, model: bytes, weights: Mapping[str, bytes], *, is_captured: bool = False
    ) -> None:
        self._place, self._graph = place, graph
        try:
            self._session: Any = self._create(model, weights, is_captured)
            self.inputs = {edge.name: self._describe(edge) for edge in self._session.get_inputs()}
            self.outputs = {edge.name: self._describe(edge) for edge in self._session.get_outputs()}
            providers = self._session.get_providers()
        except EngineError:
            raise
        except Exception as fault:
            place.cuda.check_library(f"loading the graph {graph!r}", str(fault))
            raise EngineError(
                f"ONNX Runtime cannot load the graph {graph!r} on the GPU ({first_line(fault)})",
                "a graph that this version of ONNX Runtime supports",
                "upgrade onnxruntime-gpu, or export the bundle again",
            ) from fault
        if providers[0] != place.provider:
            self._session = None
            raise EngineError(
                f"ONNX Runtime put the graph {graph!r} on {providers[0]}",
                f"{place.provider}, whose CUDA libraries it does not find or whose GPU it does not support",
                "run `pip install 'alterbute[cuda]'`, or see `alterbute doctor`",
            )

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Run once from host memory to host memory, and wait.

        Raises:
            DeviceError: the run failed, or the device is lost.
        """
        names = list(self.outputs)
        try:
            # Uncaptured: addresses of host memory change from call to call.
            options = self._options(NO_CAPTURE)
            values = self._session.run(names, {name: inputs[name] for name in self.inputs}, options)
        except Exception as fault:
            raise self._fault(fault) from fault
        return dict(zip(names, values, strict=True))

    def bind(self, tensors: Mapping[str, BoundTensor]) -> Any:
        """Bind every input and output to device memory, by name, for `run_bound`; tensors of other names are left out."""
        try:
            binding = self._session.io_binding()
            for names, bind in ((self.inputs, binding.bind_input), (self.outputs, binding.bind_output)):
                for name in names:
                    tensor = tensors[name]
                    place = (self._place.kind, self._place.device, tensor.dtype, tensor.shape, tensor.address)
                    bind(name, *place)
        except Exception as fault:
            raise self._fault(fault) from fault
        return binding

    def run_bound(self, binding: Any, annotation: int = NO_CAPTURE) -> None:
        """Enqueue one run over bound memory, without waiting.

        Args:
            binding: From `bind`.
            annotation: Number of the CUDA graph that the first run captures and later ones replay; `NO_CAPTURE` for a plain run.

        Raises:
            DeviceError: the run failed, or the device is lost.
        """
        try:
            options = self._options(annotation)
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self._session.run_with_iobinding(binding, options)
        except Exception as fault:
            raise self._fault(fault) from fault

    def close(self) -> None:
        """Free the session, unless the device is lost: ONNX Runtime ends the process when it frees memory of a lost device."""
        if self._place.cuda.is_lost and self._session is not None:
            # One reference more than there are owners: the interpreter does not free it as it ends, either.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None

    def _create(self, model: bytes, weights: Mapping[str, bytes], is_captured: bool) -> Any:
        ort, files = self._place.ort, list(weights)
        options = ort.SessionOptions()
        # Errors are raised; what the library would print besides holds names of the graph as they are.
        options.log_severity_level = 4
        options.add_external_initializers_from_files_in_memory(
            files, [weights[name] for name in files], [len(weights[name]) for name in files]
        )
        settings = {
            "device_id": str(self._place.device),
            "user_compute_stream": str(self._place.cuda.handle),
            "enable_cuda_graph": "1" if is_captured else "0",
            # cuDNN's heuristics of mode B; nothing is timed.
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            # Few operators stay fp32: without TF32 they take no measurably longer.
            "use_tf32": "0",
        }
        providers = [(self._place.provider, settings if self._place.provider == CUDA_PROVIDER else {})]
        return ort.InferenceSession(model, options, providers=providers)

    def _options(self, annotation: int) -> Any:
        options = self._place.ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(annotation))
        return options

    def _describe(self, edge: Any) -> tuple[Any, tuple[int | str, ...]]:
        """Numpy type and shape of an input or output."""
        if edge.type not in _NUMPY or not all(isinstance(axis, int | str) for axis in edge.shape):
            raise EngineError(
                f"the graph {self._graph!r} has {edge.name!r} of {edge.type} {edge.shape}",
                f"one of {', '.join(_NUMPY)}, with a name for every free dimension",
                "export the bundle again",
            )
        return _NUMPY[edge.type], tuple(edge.shape)

    def _fault(self, fault: Exception) -> EngineError:
        # The frames hold the session, which must not be freed by the thread that drops the error.
        traceback.clear_frames(fault.__traceback__)
        self._place.cuda.check_library(f"the graph {self._graph!r}", str(fault))
        return DeviceError(
            f"the graph {self._graph!r} failed in ONNX Runtime ({first_line(fault)})",
            "a run with the manifest's shapes",
            "verify the bundle with `alterbute verify`, or export it again",
        )
