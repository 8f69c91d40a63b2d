"""TensorRT and TensorRT-RTX: prebuilt engines on one GPU."""

from __future__ import annotations

from alterbute.backends.base import Backend
from alterbute.backends.cuda.runtime import CudaApi
from alterbute.backends.cuda.threaded_backend import ThreadedBackend
from alterbute.backends.tensorrt.engine_graphs import EngineGraphs
from alterbute.backends.tensorrt.module import RuntimeModule
from alterbute.bundle import Bundle, Engine, Product


class TensorRtBackend(ThreadedBackend):
    """Prebuilt engines on one GPU; implements `alterbute.backends.DeviceBackend`.

    Its captures are thread-local, which other threads do not disturb; but its own allocations would break a capture of ONNX
    Runtime in the same process, so it shares the process's capture guard.

    Args:
        bundle: The bundle, signed by a trusted key or explicitly accepted without.
        product: `tensorrt` or `tensorrt_rtx`.
        engines: One engine for each graph but the image graphs, accepted by `choose_engines` for this machine.
        trt: That library's module; the driver was probed before it was imported.
        cuda_api: `cuda.bindings.runtime`.
        host: The backend that runs the image graphs (`HOST_GRAPHS`).
        device: Index of the GPU.

    Raises:
        EngineError: an engine does not load.
        DeviceError: the GPU has too little free memory, or is lost.
    """

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
        super().__init__(
            lambda thread: EngineGraphs(
                bundle, product, engines, trt=trt, cuda_api=cuda_api, thread=thread, device=device
            ),
            host=host,
            device=device,
        )
