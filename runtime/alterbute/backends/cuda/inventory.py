"""What this machine has for running on a GPU: driver, GPUs, packages and libraries, without judging any of it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from alterbute.backends.cuda.driver import Driver, Gpu, probe_driver, probe_driver_version, probe_gpus
from alterbute.backends.cuda.libraries import CudaLibrary, build_major, load_libraries
from alterbute.backends.cuda.packages import describe_conflict, installed_package
from alterbute.backends.cuda.runtime import load_cuda
from alterbute.errors import EngineError

PACKAGES: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
    "cuda-bindings",
    "nvidia-cuda-runtime",
    "nvidia-cublas",
    "nvidia-cudnn-cu13",
    "nvidia-cuda-nvrtc",
    "nvidia-cufft",
    "nvidia-curand",
)
"""The packages that the backends use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """A GPU and its free memory in bytes; None where CUDA cannot be asked."""

    gpu: Gpu
    free: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Driver, GPUs, packages and libraries of a machine.

    Args:
        driver: The newest CUDA version that the driver supports, and the GPU that was asked for or the reason why there is none.
        driver_version: The driver's own version; None where it cannot be read.
        gpus: Every GPU that this process sees.
        packages: Version of each installed package of `PACKAGES`, by name.
        libraries: What ONNX Runtime's CUDA provider needs; empty where the installed ONNX Runtime has no such provider.
        conflict: A line on packages that overwrite each other, with the cure; empty when there are none.
    """

    driver: Driver
    driver_version: str | None
    gpus: tuple[GpuMemory, ...]
    packages: Mapping[str, str]
    libraries: tuple[CudaLibrary, ...]
    conflict: str


def take_inventory(device: int = 0) -> Inventory:
    """Read driver, GPUs, packages and libraries of this machine; never raises. CUDA's libraries stay loaded.

    Args:
        device: Index of the GPU that is meant to be used.
    """
    packages = {name: version for name in PACKAGES if (version := installed_package(name)) is not None}
    libraries = _find_libraries()
    gpus = probe_gpus()
    free = _read_free_memory(len(gpus), device)
    return Inventory(
        driver=probe_driver(device),
        driver_version=probe_driver_version(),
        gpus=tuple(GpuMemory(gpu=gpu, free=size) for gpu, size in zip(gpus, free, strict=True)),
        packages=packages,
        libraries=libraries,
        conflict=describe_conflict(),
    )


def _find_libraries() -> tuple[CudaLibrary, ...]:
    if importlib.util.find_spec("onnxruntime") is None:
        return ()
    try:
        ort: Any = importlib.import_module("onnxruntime")
    except Exception:  # whatever a broken binary raises; opening the backend reports it
        return ()
    return () if build_major(ort) is None else load_libraries(ort)


def _read_free_memory(count: int, device: int) -> list[int | None]:
    """Free bytes of each GPU; afterwards `device` is this thread's GPU."""
    if not count:
        return []
    free: list[int | None] = [None] * count
    try:
        cuda = load_cuda()
        for index in range(count):
            if not int(cuda.cudaSetDevice(index)[0]):
                error, *sizes = cuda.cudaMemGetInfo()
                free[index] = None if int(error) else int(sizes[0])
        cuda.cudaSetDevice(device)
    except (EngineError, RuntimeError, OSError, AttributeError):  # the bindings without their library
        return free
    return free
