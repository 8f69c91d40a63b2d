"""Facts about this machine, and the reasons why contenders cannot run on it."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import asdict, dataclass
from typing import Any, Final

from alterbute.backends.cuda.driver import Driver, probe_driver

from benchmarks.common.machine import commit, cpu_name, load_average, package_versions, run_command, usable_cpus

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
# TFLOP/s of dense fp16 products with fp32 accumulation, from NVIDIA's data sheets.
_PEAKS: Final = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMachine:
    """Facts about the machine for the report.

    Args:
        cpu: Name of the CPU.
        num_cpus: Usable cores.
        load: Load average of the last minute.
        driver: CUDA version and GPU; without a GPU, the reason.
        peak_tflops: The GPU's fp16 peak in TFLOP/s; None if unknown.
        clocks: Current and maximum SM clock and power limit, as `nvidia-smi` prints them.
        packages: Versions of installed packages by name.
        commit: Commit of the checkout.
        missing: Reason why a contender cannot run, by contender; those that can run are left out.
    """

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
        """The facts as JSON values."""
        return asdict(self)


def probe_machine() -> GpuMachine:
    """Read the facts from driver, packages and git. Without a GPU no engine library is loaded."""
    driver = probe_driver()
    name = driver.gpu.name if driver.gpu else ""
    return GpuMachine(
        cpu=cpu_name(),
        num_cpus=usable_cpus(),
        load=load_average(),
        driver=driver,
        peak_tflops=next((peak for part, peak in _PEAKS.items() if part in name.split()), None),
        clocks=run_command("nvidia-smi", "--query-gpu=clocks.sm,clocks.max.sm,power.limit", "--format=csv,noheader")
        if name
        else "",
        packages=package_versions(_PACKAGES),
        commit=commit(),
        missing={contender: reason for contender in CONTENDERS if (reason := _missing_requirement(contender, driver))},
    )


def _missing_requirement(contender: str, driver: Driver) -> str:
    """What a contender lacks on this machine; empty if it can run."""
    if driver.gpu is None:
        return driver.reason
    if contender.startswith("torch"):
        return (
            "" if _has("torch") and importlib.import_module("torch").cuda.is_available() else "torch has no CUDA device"
        )
    if not _has("cuda"):
        return "cuda-bindings is not installed"
    if contender == "onnxruntime-cuda":
        providers = importlib.import_module("onnxruntime").get_available_providers() if _has("onnxruntime") else []
        return "" if "CUDAExecutionProvider" in providers else "onnxruntime-gpu is not installed"
    if not _has(contender):
        return f"{contender} is not installed"
    if contender == "tensorrt_rtx" and driver.gpu.capability not in _RTX_GPUS:
        return f"its release notes do not list compute capability {driver.gpu.capability}; run it anyway with --try-rtx"
    return ""


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
