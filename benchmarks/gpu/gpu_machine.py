"""Facts of this machine, the contenders that it can run, and what is missing for the others."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import asdict, dataclass
from typing import Any, Final

from alterbute.backends.cuda.driver import Driver, probe_driver

from benchmarks.common.machine import ask, commit, cpu_name, load_average, package_versions, usable_cpus

CONTENDERS: Final = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda", "torch-compile-fp16", "torch-fp16", "torch-fp32")
_PACKAGES: Final = (
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
    "onnxruntime-gpu",
    "onnxruntime",
    "torch",
    "diffusers",
    "cuda-bindings",
)
_RTX_GPUS: Final = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
# Dense fp16 products with fp32 sums, from NVIDIA's data sheets, in TFLOP/s.
_PEAKS: Final = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMachine:
    """Facts for the report. `missing` holds, by contender, the reason why it cannot run."""

    cpu: str
    num_cpus: int
    load: float
    driver: Driver
    peak_tflops: float | None
    clocks: str
    packages: dict[str, str]
    commit: str
    missing: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def look_at_machine() -> GpuMachine:
    """Read facts from the driver, the packages and git; loads no engine library where there is no GPU."""
    driver = probe_driver()
    name = driver.gpu.name if driver.gpu else ""
    return GpuMachine(
        cpu=cpu_name(),
        num_cpus=usable_cpus(),
        load=load_average(),
        driver=driver,
        peak_tflops=next((peak for part, peak in _PEAKS.items() if part in name.split()), None),
        clocks=ask("nvidia-smi", "--query-gpu=clocks.sm,clocks.max.sm,power.limit", "--format=csv,noheader")
        if name
        else "",
        packages=package_versions(_PACKAGES),
        commit=commit(),
        missing={contender: reason for contender in CONTENDERS if (reason := _why_not(contender, driver))},
    )


def _why_not(contender: str, driver: Driver) -> str:
    if driver.gpu is None:
        return driver.reason
    if contender.startswith("torch"):
        return "" if _has("torch") and importlib.import_module("torch").cuda.is_available() else "torch sees no GPU"
    if not _has("cuda"):
        return "cuda-bindings is not installed"
    if contender == "onnxruntime-cuda":
        found = importlib.import_module("onnxruntime").get_available_providers() if _has("onnxruntime") else []
        return "" if "CUDAExecutionProvider" in found else "onnxruntime-gpu is not installed"
    if not _has(contender):
        return f"{contender} is not installed"
    if contender == "tensorrt_rtx" and driver.gpu.capability not in _RTX_GPUS:
        return f"its release notes do not name compute capability {driver.gpu.capability}; --try-rtx tries it"
    return ""


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
