"""Processes that run one contender each, so that memory peaks and thread pools stay separate."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.common.machine import load_average, package_versions

ProcessResult = dict[str, Any]
"""Result of a process as JSON values: times, peak memory, package versions and load average."""


def run_process(program: str, arguments: Sequence[str], python: str = sys.executable) -> ProcessResult | str:
    """Run a contender in a process; returns its result, or its exit code and last line of standard error.

    Args:
        program: Name of a module whose last act is `print_result`.
        arguments: Its command line.
        python: Interpreter of the environment that the contender needs.
    """
    load = load_average()
    process = subprocess.run([python, "-m", program, *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        return f"exit {process.returncode}: {lines[-1] if lines else 'no message'}"
    result: ProcessResult = json.loads(process.stdout.strip().splitlines()[-1])
    return {**result, "load_before": load}


def print_result(result: ProcessResult, packages: tuple[str, ...]) -> None:
    """Print a result as one line of JSON, together with the peak of resident memory and package versions."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    document = {**result, "peak_bytes": peak, "packages": package_versions(packages)}
    sys.stdout.write("\n" + json.dumps(document) + "\n")
