"""Facts about this machine, and the reasons why contenders cannot run on it."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from typing import Any, Final

from alterbute.backends.cuda.driver import Driver, probe_driver

from benchmarks.common.machine import commit, cpu_name, load_average, package_versions, run_command, usable_cpus

CONTENDERS: Final = ("onnxruntime-cuda", "torch", "tensorrt", "tensorrt_rtx")
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
_CLOCKS: Final = "clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu,power.draw,power.limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMachine:
    """Facts about the machine for the report.

    Args:
        cpu: Name of the CPU.
        num_cpus: Usable cores.
        load: Load average of the last minute.
        driver: CUDA version and GPU; without a GPU, the reason.
        packages: Versions of installed packages by name.
        commit: Commit of the checkout.
        missing: Reason why a contender cannot run, by contender; those that can run are left out.
    """

    cpu: str
    num_cpus: int
    load: float
    driver: Driver
    packages: dict[str, str]
    commit: str
    missing: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return asdict(self)

    def stage_facts(self) -> dict[str, Any]:
        """What the entry of every stage records: card, driver, versions, commit, and clocks at this moment."""
        gpu = self.driver.gpu
        return {
            "card": gpu.name if gpu else "no GPU",
            "driver": _ask_smi("driver_version") if gpu else "",
            "cuda": self.driver.cuda,
            "packages": self.packages,
            "commit": self.commit,
            _CLOCKS: _ask_smi(_CLOCKS) if gpu else "",
            "load": load_average(),
        }


def probe_machine(commit_name: str = "") -> GpuMachine:
    """Read the facts from driver, packages and git; neither torch nor an engine library is loaded.

    Args:
        commit_name: The commit, for a copy of the tree outside a checkout; "" reads it from git.
    """
    driver = probe_driver()
    return GpuMachine(
        cpu=cpu_name(),
        num_cpus=usable_cpus(),
        load=load_average(),
        driver=driver,
        packages=package_versions(_PACKAGES),
        commit=commit_name or commit(),
        missing={contender: reason for contender in CONTENDERS if (reason := _missing_requirement(contender, driver))},
    )


def _missing_requirement(contender: str, driver: Driver) -> str:
    """What a contender lacks on this machine; empty if it can run."""
    if driver.gpu is None:
        return driver.reason
    modules = {"torch": "torch", "onnxruntime-cuda": "onnxruntime"}
    for module in ("cuda", modules.get(contender, contender)):
        if importlib.util.find_spec(module) is None and (module, contender) != ("cuda", "torch"):
            return f"{'cuda-bindings' if module == 'cuda' else module} is not installed"
    if contender == "tensorrt_rtx" and driver.gpu.capability not in _RTX_GPUS:
        return f"its release notes do not list compute capability {driver.gpu.capability}; run it anyway with --try-rtx"
    return ""


def _ask_smi(fields: str) -> str:
    return run_command("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
