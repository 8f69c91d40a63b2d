"""The builder's Python module: `tensorrt` or `tensorrt_rtx`, behind one protocol."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final, Protocol, cast

from alterbute.bundle import Product

from alterbute_export.engine import api
from alterbute_export.errors import BuildError


class BuilderModule(Protocol):
    """Names of the module that are used. `Logger` is called, `IProgressMonitor` is a base class."""

    __version__: str
    Logger: Any
    IProgressMonitor: Any
    BuilderFlag: api.BuilderFlag
    MemoryPoolType: api.MemoryPoolType
    HardwareCompatibilityLevel: api.HardwareCompatibilityLevel
    ProfilingVerbosity: api.ProfilingVerbosity
    LayerInformationFormat: api.LayerInformationFormat
    LayerType: api.LayerType
    DataType: api.DataType

    def Builder(self, logger: object) -> api.Builder: ...
    def OnnxParser(self, network: api.INetworkDefinition, logger: object) -> api.OnnxParser: ...
    def Runtime(self, logger: object) -> api.Runtime: ...


INSTALL: Final = {"tensorrt": "alterbute[tensorrt]", "tensorrt_rtx": "alterbute[rtx]"}


def load_module(product: Product) -> BuilderModule:
    """Import the builder.

    Raises:
        BuildError: it is not installed, or its libraries do not load.
    """
    fix = f"run `pip install '{INSTALL[product]}'`"
    if importlib.util.find_spec(product) is None:
        raise BuildError(f"{product} is not installed", "the library that builds this recipe", fix)
    try:
        return cast(BuilderModule, importlib.import_module(product))
    except Exception as fault:
        raise BuildError(f"{product} does not load ({fault})", "a working installation", fix) from fault
