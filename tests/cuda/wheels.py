"""The folder of wheels that the stand-in needs: ONNX Runtime's CUDA build and CUDA's headers. `make cuda-wheels` fills it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_PROVIDER: Final = "onnxruntime/onnxruntime/capi/libonnxruntime_providers_cuda.so"
_INCLUDE: Final = "headers/nvidia/cu13/include"


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaWheels:
    """The unpacked wheels: ONNX Runtime and the headers in folders of their own.

    The headers' wheel holds CUDA's real runtime, which ONNX Runtime would load from beside itself.
    """

    folder: Path

    @property
    def onnxruntime(self) -> Path:
        """Folder for Python's path, with ONNX Runtime's CUDA build."""
        return self.folder / "onnxruntime"

    @property
    def provider(self) -> Path:
        """ONNX Runtime's CUDA provider."""
        return self.folder / _PROVIDER

    @property
    def include(self) -> Path:
        """CUDA's headers."""
        return self.folder / _INCLUDE


def find_wheels() -> CudaWheels | str:
    """The wheels, or the reason why the stand-in cannot be built on this machine."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the stand-in of CUDA is for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    absent = [tool for tool in ("g++", "nm") if shutil.which(tool) is None]
    if absent:
        return f"the stand-in of CUDA is compiled with g++ and read with nm; not found: {', '.join(absent)}"
    named = os.environ.get("ALTERBUTE_CUDA_WHEELS")
    folders = [Path(named)] if named else [ROOT / ".venv" / "cuda", Path(sys.prefix).parent / "cuda"]
    for folder in folders:
        wheels = CudaWheels(folder=folder)
        if wheels.provider.is_file() and (wheels.include / "cuda_runtime_api.h").is_file():
            return wheels
    return "no wheels of onnxruntime-gpu and of CUDA's headers; run `make cuda-wheels`"
