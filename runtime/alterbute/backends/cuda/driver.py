"""The NVIDIA GPU of this machine, read from the driver before any engine library is used.

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
_MAJOR: Final = 75
_MINOR: Final = 76
_NAME_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: its name, compute capability (`9.0`) and memory in bytes."""

    name: str
    capability: str
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The newest CUDA version that the driver supports (`13.0`), and a GPU or the reason why there is none."""

    cuda: str
    gpu: Gpu | None
    reason: str


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
    if status:
        return _no_gpu(f"the NVIDIA driver does not start (cuInit gives {status})")
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    handle = ctypes.c_int()
    status = cuda.cuDeviceGet(ctypes.byref(handle), device)
    if status:
        return _no_gpu(f"there is no GPU {device} (cuDeviceGet gives {status})", version)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    calls = (
        cuda.cuDeviceGetName(name, _NAME_BYTES, handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle),
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle),
    )
    if any(calls):
        return _no_gpu(f"the NVIDIA driver does not describe GPU {device} ({next(filter(None, calls))})", version)
    gpu = Gpu(name=name.value.decode(errors="replace"), capability=f"{major.value}.{minor.value}", memory=memory.value)
    return Driver(cuda=version, gpu=gpu, reason="")


def this_platform() -> str:
    """The platform in the manifest's form, such as `linux_x86_64`."""
    return f"{platform.system()}_{platform.machine()}".lower()


def _no_gpu(reason: str, cuda: str = "0.0") -> Driver:
    return Driver(cuda=cuda, gpu=None, reason=reason)
