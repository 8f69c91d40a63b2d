"""Opening of one backend by name: library and driver are checked before anything is read from the bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from alterbute.backends.base import HOST_GRAPHS, Backend
from alterbute.backends.cuda.driver import Driver, probe_driver, this_platform
from alterbute.backends.engine_fit import Machine, check_trust, choose_engines
from alterbute.bundle import Bundle, Product
from alterbute.errors import EngineError

_EXTRAS: Final[dict[Product, str]] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


class Opener:
    """Opens a bundle's graphs on backends by name. The driver is probed once, before any library that needs it is imported.

    Args:
        bundle: The bundle.
        threads: CPU threads for the large graphs; None takes the backend's default.
        allow_unsigned: Load engines of a bundle that no trusted key has signed.
        device: Index of the GPU.
        exact: Open only what gives a request the same bytes alone and beside others.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int | None, allow_unsigned: bool, device: int, exact: bool = False
    ) -> None:
        self._bundle, self._threads, self._allow_unsigned, self._device = bundle, threads, allow_unsigned, device
        self._exact = exact
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver:
        """The NVIDIA driver and its GPU."""
        if self._driver is None:
            self._driver = probe_driver(self._device)
        return self._driver

    def open(self, name: str) -> Backend:
        """Open a backend, one of `AUTO_ORDER`.

        Raises:
            EngineError: it cannot run this bundle here.
        """
        openers: dict[str, Callable[[], Backend]] = {
            "tensorrt": lambda: self._open_tensorrt("tensorrt"),
            "tensorrt_rtx": lambda: self._open_tensorrt("tensorrt_rtx"),
            "onnxruntime-cuda": self._open_cuda,
            "onnxruntime": lambda: self._open_cpu(None),
        }
        return openers[name]()

    def _open_cpu(self, graphs: tuple[str, ...] | None) -> Backend:
        from alterbute.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(self._bundle, threads=self._threads, graphs=graphs)

    def _open_tensorrt(self, product: Product) -> Backend:
        from alterbute.backends.cuda.runtime import load_cuda
        from alterbute.backends.tensorrt.backend import TensorRtBackend
        from alterbute.backends.tensorrt.module import load_module

        # Cheap checks first: most machines have no such engines and no GPU, and these checks need no library.
        check_trust(self._bundle, product, allow_unsigned=self._allow_unsigned)
        if self._exact:
            raise EngineError(
                f"{product} chooses kernels by launch shape, and exact was asked for",
                "a backend that gives the same bytes alone and in a batch",
                "choose backend onnxruntime-cuda or onnxruntime, or leave exact out",
            )
        driver = self._require_gpu(product)
        trt = load_module(product)
        machine = Machine(product=product, version=trt.__version__, platform=this_platform(), driver=driver)
        engines = choose_engines(self._bundle, machine, allow_unsigned=self._allow_unsigned)
        return TensorRtBackend(
            self._bundle,
            product,
            engines,
            trt=trt,
            cuda_api=load_cuda(extra=_EXTRAS[product]),
            host=self._open_cpu(HOST_GRAPHS),
            device=self._device,
        )

    def _open_cuda(self) -> Backend:
        from alterbute.backends.cuda.libraries import import_cuda_provider
        from alterbute.backends.cuda.runtime import load_cuda
        from alterbute.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend

        driver = self._require_gpu("onnxruntime-cuda")
        # First: its advice for an environment with the CPU's onnxruntime is to uninstall that one.
        ort = import_cuda_provider(driver)
        cuda_api = load_cuda(extra="cuda")
        host = self._open_cpu(HOST_GRAPHS)
        try:
            return OnnxRuntimeCudaBackend(
                self._bundle, ort=ort, cuda_api=cuda_api, host=host, device=self._device, exact=self._exact
            )
        except BaseException:
            host.close()
            raise

    def _require_gpu(self, name: str) -> Driver:
        if self.driver.gpu is None:
            raise EngineError(
                f"{name} needs an NVIDIA GPU, and {self.driver.reason}",
                "a GPU with a working driver",
                "install or repair the NVIDIA driver"
                if self.driver.is_broken
                else "choose backend onnxruntime, or install the NVIDIA driver",
            )
        return self.driver
