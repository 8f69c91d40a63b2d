"""The module `tensorrt` or `tensorrt_rtx`, and the two classes that must derive from classes of it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from threading import Lock
from typing import Any, Final, Protocol, cast

from alterbute.backends.tensorrt import api
from alterbute.bundle import Product
from alterbute.errors import EngineError

_logger: Final = logging.getLogger(__name__)
_MAX_ERRORS: Final = 16
_EXTRAS: Final = {"tensorrt": "alterbute[tensorrt]", "tensorrt_rtx": "alterbute[rtx]"}


class RuntimeModule(Protocol):
    """The names of the module that are used. `ILogger` and `IErrorRecorder` are base classes of classes in this file."""

    __version__: str
    ILogger: Any
    IErrorRecorder: Any
    ExecutionContextAllocationStrategy: api.ExecutionContextAllocationStrategy
    TensorIOMode: api.TensorIOMode
    DataType: api.DataType

    def Runtime(self, logger: object) -> api.Runtime: ...
    def Refitter(self, engine: api.ICudaEngine, logger: object) -> api.Refitter: ...
    def OnnxParserRefitter(self, refitter: api.Refitter, logger: object) -> api.OnnxParserRefitter: ...


class RtxModule(RuntimeModule, Protocol):
    """Names that only TensorRT-RTX has."""

    DynamicShapesKernelSpecializationStrategy: api.DynamicShapesKernelSpecializationStrategy


def is_installed(product: Product) -> bool:
    """Whether the library is installed; does not import it."""
    return importlib.util.find_spec(product) is not None


def load_module(product: Product) -> RuntimeModule:
    """Import the library. The driver must have been probed before.

    Raises:
        EngineError: it is not installed, or does not load.
    """
    fix = f"run `pip install '{_EXTRAS[product]}'`"
    if not is_installed(product):
        raise EngineError(f"{product} is not installed", "the library that runs this bundle's engines", fix)
    try:
        return cast(RuntimeModule, importlib.import_module(product))
    except Exception as fault:
        raise EngineError(f"{product} does not load ({fault})", "a working installation", fix) from fault


def make_logger(trt: RuntimeModule) -> Any:
    """Make a TensorRT logger that passes messages on to `logging`."""
    severity: api.Severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG,
    }
    base: type = trt.ILogger

    class Logger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: object, msg: str) -> None:
            _logger.log(levels.get(severity, logging.WARNING), "TensorRT: %s", msg)

    return Logger()


def make_recorder(trt: RuntimeModule) -> Any:
    """Make an error recorder that keeps the first messages of a failure for the exception that follows."""
    base: type = trt.IErrorRecorder

    class Recorder(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._lock, self._errors = Lock(), list[tuple[Any, str]]()

        def report_error(self, code: Any, description: str) -> bool:
            with self._lock:
                if len(self._errors) < _MAX_ERRORS:
                    self._errors.append((code, description))
            return False

        def num_errors(self) -> int:
            return len(self._errors)

        def get_error_code(self, index: int) -> Any:
            return self._errors[index][0]

        def get_error_desc(self, index: int) -> str:
            return self._errors[index][1]

        def has_overflowed(self) -> bool:
            return len(self._errors) >= _MAX_ERRORS

        def clear(self) -> None:
            with self._lock:
                self._errors.clear()

    return Recorder()


def take_errors(recorder: Any) -> str:
    """Return a recorder's messages as one line, and clear it."""
    messages = "; ".join(recorder.get_error_desc(index) for index in range(recorder.num_errors()))
    recorder.clear()
    return messages or "no error was reported"
