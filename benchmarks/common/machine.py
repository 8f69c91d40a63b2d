"""Facts about the machine and the installed software, for result files."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[2]


def machine_facts(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, load average, Python version, package versions and the commit.

    Args:
        packages: Distributions whose versions are recorded; those that are not installed are left out.
    """
    return {
        "processor": cpu_name(),
        "cpus": usable_cpus(),
        "memory_gib": memory_gib(),
        "load_before": load_average(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": package_versions(packages),
        "commit": commit(),
    }


def cpu_name() -> str:
    """Name and widest vector instructions of the CPU on Linux; elsewhere `platform.processor()`."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in pairs}
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = set(fields.get("flags", "").split())
    widest = next((flag for flag in ("amx_tile", "avx512_vnni", "avx512f", "avx_vnni", "avx2") if flag in flags), "")
    return f"{name} ({widest})" if widest else name


def usable_cpus() -> int:
    """Number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Physical memory in GiB; None where the system does not report it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def load_average() -> float:
    """Load average of the last minute; -1 where the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1.0


def package_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions by name of those packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package).split("+")[0]
        except PackageNotFoundError:
            continue
    return versions


def commit() -> str:
    """Short hash of HEAD, with `+` if files of the product differ from it; empty outside a checkout."""
    name = run_command("git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD")
    is_changed = bool(name) and bool(
        run_command("git", "-C", str(_ROOT), "status", "--porcelain", "-uno", "runtime", "export", "engines")
    )
    return f"{name}+" if is_changed else name


def run_command(*command: str) -> str:
    """Standard output of a program; empty if it is missing, fails or runs longer than 20 s."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""
