"""The NVIDIA GPUs of this machine, read from the driver before any engine library is used.

TensorRT's lean runtime returns null pointers where there is no driver, and the process crashes on the first call.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_LIBRARY: Final = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MANAGEMENT: Final = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
# A machine without a GPU may still have the library: as a stub for linking (34), or with the driver's packages (100).
_NO_GPU: Final = frozenset({34, 100})
_MAJOR: Final = 75
_MINOR: Final = 76
_NAME_BYTES: Final = 256
_VERSION_BYTES: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: its name, compute capability (`9.0`) and memory in bytes."""

    name: str
    capability: str
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The newest CUDA version that the driver supports (`13.0`), and a GPU or the reason why there is none.

    `is_broken` tells a driver that does not work, or lacks the GPU that was asked for, from a machine without a GPU.
    """

    cuda: str
    gpu: Gpu | None
    reason: str
    is_broken: bool = False

    @property
    def expects_gpu(self) -> bool:
        """Whether this machine has a GPU, or was meant to have one: running on the CPU is then worth a warning."""
        return self.gpu is not None or self.is_broken


def probe_driver(device: int = 0, load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Read a GPU's properties from the NVIDIA driver; never raises, and loads nothing but the driver.

    Args:
        device: Index of the GPU.
        load: Function that opens a shared library by name.
    """
    try:
        cuda = load(_LIBRARY)
    except OSError:
        return _no_gpu(f"there is no NVIDIA driver ({_LIBRARY} does not load)")
    status = cuda.cuInit(0)
    if status in _NO_GPU:
        return _no_gpu(f"the NVIDIA driver finds no GPU (cuInit gives {status})")
    if status:
        return _no_gpu(f"the NVIDIA driver does not start (cuInit gives {status})", is_broken=True)
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    handle = ctypes.c_int()
    status = cuda.cuDeviceGet(ctypes.byref(handle), device)
    if status:
        return _no_gpu(f"there is no GPU {device} (cuDeviceGet gives {status})", version, is_broken=True)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    calls = (
        cuda.cuDeviceGetName(name, _NAME_BYTES, handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle),
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle),
    )
    if any(calls):
        reason = f"the NVIDIA driver does not describe GPU {device} ({next(filter(None, calls))})"
        return _no_gpu(reason, version, is_broken=True)
    gpu = Gpu(name=name.value.decode(errors="replace"), capability=f"{major.value}.{minor.value}", memory=memory.value)
    return Driver(cuda=version, gpu=gpu, reason="")


def probe_gpus(load: Callable[[str], Any] = ctypes.CDLL) -> tuple[Gpu, ...]:
    """Every GPU that the driver shows to this process, in its order; empty without a working driver; never raises."""
    try:
        cuda = load(_LIBRARY)
    except OSError:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = (probe_driver(device, load).gpu for device in range(count.value))
    return tuple(gpu for gpu in found if gpu is not None)


def probe_driver_version(load: Callable[[str], Any] = ctypes.CDLL) -> str | None:
    """The driver's own version (`580.65.06`), from NVIDIA's management library; None where that does not tell; never raises."""
    try:
        management = load(_MANAGEMENT)
        if management.nvmlInit_v2():
            return None
        text = ctypes.create_string_buffer(_VERSION_BYTES)
        status = management.nvmlSystemGetDriverVersion(text, _VERSION_BYTES)
        management.nvmlShutdown()
    except (OSError, AttributeError):
        return None
    return None if status else text.value.decode(errors="replace")


def this_platform() -> str:
    """The platform in the manifest's form, such as `linux_x86_64`."""
    return f"{platform.system()}_{platform.machine()}".lower()


def _no_gpu(reason: str, cuda: str = "0.0", *, is_broken: bool = False) -> Driver:
    return Driver(cuda=cuda, gpu=None, reason=reason, is_broken=is_broken)
