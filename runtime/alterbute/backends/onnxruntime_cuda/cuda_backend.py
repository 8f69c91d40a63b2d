"""ONNX Runtime on an NVIDIA GPU, for machines or bundles without TensorRT engines."""

from __future__ import annotations

from typing import Any

from alterbute.backends.base import Backend
from alterbute.backends.cuda.libraries import CUDA_PROVIDER
from alterbute.backends.cuda.runtime import CudaApi
from alterbute.backends.cuda.threaded_backend import ThreadedBackend
from alterbute.backends.onnxruntime_cuda.provider_graphs import ProviderGraphs
from alterbute.bundle import Bundle


class OnnxRuntimeCudaBackend(ThreadedBackend):
    """A bundle's graphs on ONNX Runtime's CUDA execution provider; implements `alterbute.backends.DeviceBackend`.

    Sessions run on one CUDA stream, so uploads, launches and reads keep their order without waiting, and one thread makes all
    calls. The step session captures one CUDA graph per launch shape and direction of the state.

    What an image's bytes depend on: cuDNN and cuBLAS choose kernels by shape, so they may differ between launch shapes; launches are
    padded to few shapes (`alterbute.backends.cuda.launch_buckets`). ONNX Runtime's group normalization adds with atomics, in an
    order that changes from run to run, so that graphs made for CUDA (`Variant.is_deterministic` false) may differ in their last
    bits between two runs. With `exact` every launch has the shape of a full lane and such graphs are not used: an image then has
    the same bytes alone and beside others, as far as the kernels compute rows independently, at the price of a full lane for every step.

    Args:
        bundle: The bundle; a variant made for CUDA is preferred, then half precision.
        ort: The module `onnxruntime`.
        cuda_api: `cuda.bindings.runtime`.
        host: The backend that runs the image graphs (`HOST_GRAPHS`).
        device: Index of the GPU.
        exact: Launch the step graph at one shape only, and run deterministic graphs only.
        provider: Name of the execution provider; tests pass the CPU's.
        kind: Device type of bound memory in ONNX Runtime's terms.

    Raises:
        EngineError: ONNX Runtime does not load a graph, or not on the GPU.
        DeviceError: the GPU has too little free memory, or is lost.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        ort: Any,
        cuda_api: CudaApi,
        host: Backend,
        device: int = 0,
        exact: bool = False,
        provider: str = CUDA_PROVIDER,
        kind: str = "cuda",
    ) -> None:
        super().__init__(
            lambda thread: ProviderGraphs(
                bundle,
                ort=ort,
                cuda_api=cuda_api,
                thread=thread,
                device=device,
                exact=exact,
                provider=provider,
                kind=kind,
            ),
            host=host,
            device=device,
        )
