"""ONNX Runtime's CUDA provider and the libraries that it loads, checked before any session is made.

Without this check, a library that is missing puts every session on the CPU with no error, and a missing cuDNN is noticed at the
first convolution.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alterbute.backends.cuda.driver import Driver
from alterbute.backends.cuda.packages import describe_conflict, find_onnxruntime, installed_package, join_versions
from alterbute.errors import EngineError

_logger: Final = logging.getLogger(__name__)
CUDA_PROVIDER: Final = "CUDAExecutionProvider"
CUDA_MAJOR: Final = 13
"""The CUDA version, from the driver up, that the extras `cuda`, `tensorrt` and `rtx` install."""
_IS_WINDOWS: Final = sys.platform == "win32"
_PROVIDER_FILE: Final = "onnxruntime_providers_cuda.dll" if _IS_WINDOWS else "libonnxruntime_providers_cuda.so"
_OLDEST_ONNXRUNTIME: Final = (1, 31)
_FIX: Final = "run `pip install --upgrade 'alterbute[cuda]'`"
# In the order of their dependencies: an error then names the library that is missing, not one that needs it.
_LIBRARIES: Final = (
    ("CUDA runtime", "libcudart.so.{major}", "cudart64_{major}.dll"),
    ("cuBLASLt", "libcublasLt.so.{major}", "cublasLt64_{major}.dll"),
    ("cuBLAS", "libcublas.so.{major}", "cublas64_{major}.dll"),
    ("cuRAND", "libcurand.so.10", "curand64_10.dll"),
    ("cuDNN", "libcudnn.so.9", "cudnn64_9.dll"),
)
_ERRORS_ONLY: Final = 3
_OLDEST_MAJOR: Final = 11
Load = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaLibrary:
    """A shared library that the CUDA provider needs.

    Args:
        name: Its common name, such as `cuBLAS`.
        file: File name with the major version.
        version: The version that the library itself gives; None where it is not loaded or does not tell.
        fault: The loader's message if it does not load; empty otherwise.
    """

    name: str
    file: str
    version: str | None
    fault: str


def import_cuda_provider(driver: Driver, load: Load = ctypes.CDLL) -> Any:
    """Import ONNX Runtime, load the libraries of its CUDA provider into the process, and return the module.

    Args:
        driver: The driver that the libraries must fit.
        load: Function that opens a shared library by name or path.

    Raises:
        EngineError: ONNX Runtime is not installed or was built without the CUDA provider; it was built for a CUDA version
            that differs from that of cuda-bindings or is newer than the driver's; or a library does not load.
    """
    ort = _import_onnxruntime()
    _check_build(ort)
    _check_versions(ort, driver)
    for library in load_libraries(ort, load):
        if library.fault:
            raise _library_error(ort, library.file, library.fault, load)
    provider = Path(ort.__file__).parent / "capi" / _PROVIDER_FILE
    try:
        load(str(provider))
    except OSError as fault:
        raise _library_error(ort, _PROVIDER_FILE, str(fault), load) from fault
    # The default logger warns once per session that CUDA is no plugin, on stderr. As in the options of each session: errors only.
    ort.set_default_logger_severity(_ERRORS_ONLY)
    return ort


def load_libraries(ort: Any, load: Load = ctypes.CDLL) -> tuple[CudaLibrary, ...]:
    """Load what the CUDA provider needs, from NVIDIA's wheels or the system's folders; a fault is reported, not raised.

    Args:
        ort: The module `onnxruntime`.
        load: Function that opens a shared library by name.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        said = io.StringIO()
        try:
            # It prints what it cannot load; stdout belongs to the command's results.
            with contextlib.redirect_stdout(said):
                preload()
        except Exception as fault:
            _logger.debug("onnxruntime.preload_dlls failed: %s", fault)
        _logger.debug("onnxruntime.preload_dlls: %s", said.getvalue().strip() or "no message")
    return tuple(_load_library(row, build_major(ort) or CUDA_MAJOR, load) for row in _LIBRARIES)


def build_major(ort: Any) -> int | None:
    """Major version of CUDA that an onnxruntime module was built for; None for a build without CUDA."""
    text = str(getattr(ort, "cuda_version", None) or "").split(".")[0]
    return int(text) if text.isdigit() else None


def _import_onnxruntime() -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise EngineError("onnxruntime is not installed", "onnxruntime-gpu", _FIX)
    try:
        return importlib.import_module("onnxruntime")
    except Exception as fault:
        raise EngineError(f"onnxruntime does not load ({fault})", "onnxruntime-gpu", _FIX) from fault


def _check_build(ort: Any) -> None:
    providers = ort.get_available_providers()
    conflict = describe_conflict()
    if CUDA_PROVIDER not in providers:
        found = find_onnxruntime()
        if conflict:
            raise EngineError(
                f"{join_versions(found)} are both installed, and the one whose files are there lacks {CUDA_PROVIDER}",
                "onnxruntime-gpu alone",
                f"run `pip uninstall -y {' '.join(found)}`, then `pip install 'alterbute[cuda]'`",
            )
        raise EngineError(
            f"this onnxruntime {ort.__version__} has {', '.join(providers)}",
            CUDA_PROVIDER,
            "run `pip uninstall -y onnxruntime`, then `pip install 'alterbute[cuda]'`",
        )
    if conflict:
        _logger.warning("%s", conflict)


def _check_versions(ort: Any, driver: Driver) -> None:
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < _OLDEST_ONNXRUNTIME:
        raise EngineError(
            f"onnxruntime-gpu is {ort.__version__}",
            f"{'.'.join(map(str, _OLDEST_ONNXRUNTIME))} or newer, whose kernels the graphs made for CUDA were checked with",
            _FIX,
        )
    built = getattr(ort, "cuda_version", None) or "an unknown version"
    major = build_major(ort)
    if major is None:
        return
    bindings = installed_package("cuda-bindings")
    if bindings is not None and bindings.split(".")[0] != str(major):
        raise EngineError(
            f"onnxruntime-gpu {ort.__version__} is built for CUDA {built}, and cuda-bindings is {bindings}",
            f"both for CUDA {CUDA_MAJOR}",
            _FIX,
        )
    if int(driver.cuda.split(".")[0]) < major:
        raise EngineError(
            f"the NVIDIA driver supports CUDA {driver.cuda}, and onnxruntime-gpu {ort.__version__} is built for CUDA {built}",
            f"a driver for CUDA {major}.0 or newer",
            "update the NVIDIA driver",
        )


def _load_library(row: tuple[str, str, str], major: int, load: Load) -> CudaLibrary:
    name, on_linux, on_windows = row
    file = (on_windows if _IS_WINDOWS else on_linux).format(major=major)
    try:
        library = load(file)
    except OSError as fault:
        return CudaLibrary(name=name, file=file, version=None, fault=_shorten(str(fault), file))
    return CudaLibrary(name=name, file=file, version=_read_version(name, library), fault="")


def _read_version(name: str, library: Any) -> str | None:
    """The version that a loaded library gives through its C interface, without a device."""
    try:
        if name == "CUDA runtime":
            number = ctypes.c_int()
            status = library.cudaRuntimeGetVersion(ctypes.byref(number))
            return None if status else f"{number.value // 1000}.{number.value % 1000 // 10}"
        if name == "cuDNN":
            library.cudnnGetVersion.restype = ctypes.c_size_t
            value = library.cudnnGetVersion()
            return f"{value // 10000}.{value % 10000 // 100}.{value % 100}"
        if name == "cuBLAS":
            parts = [ctypes.c_int() for _ in range(3)]
            failed = any(library.cublasGetProperty(kind, ctypes.byref(part)) for kind, part in enumerate(parts))
            return None if failed else ".".join(str(part.value) for part in parts)
    except AttributeError:
        return None
    return None


def _library_error(ort: Any, file: str, fault: str, load: Load) -> EngineError:
    major = build_major(ort) or CUDA_MAJOR
    others = ", ".join([*_find_other_wheels(major), *_find_other_files(file, load)])
    return EngineError(
        f"{file} does not load ({_shorten(fault, file)}){f', and {others} is of another version' if others else ''}",
        f"the libraries of CUDA {major} and cuDNN 9, which onnxruntime-gpu {ort.__version__} is built for",
        f"{_FIX}, or add the folder of these libraries to {'PATH' if _IS_WINDOWS else 'LD_LIBRARY_PATH'}",
    )


def _find_other_wheels(major: int) -> Iterator[str]:
    """NVIDIA's wheels for another major version of CUDA."""
    for other in range(_OLDEST_MAJOR, major + 3):
        name = f"nvidia-cudnn-cu{other}"
        if other != major and (version := installed_package(name)) is not None:
            yield f"{name} {version}"


def _find_other_files(file: str, load: Load) -> Iterator[str]:
    """The same library with another major version in its name, if one can be loaded; only for Linux's names."""
    stem, separator, number = file.partition(".so.")
    for other in (int(number) - 1, int(number) + 1) if separator else ():
        with contextlib.suppress(OSError):
            load(f"{stem}.so.{other}")
            yield f"{stem}.so.{other}"


def _shorten(fault: str, file: str) -> str:
    return fault.removeprefix(f"{file}: ")
