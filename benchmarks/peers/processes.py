"""A run of one contender in a process of its own, so that memory peaks and thread pools do not mix."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.common.machine import load_average, package_versions

Turn = dict[str, Any]


def run_process(program: str, arguments: Sequence[str], python: str = sys.executable) -> Turn | str:
    """Run a contender in a process; returns its result, or the last line of its error.

    Args:
        program: A module of the benchmarks.
        arguments: Its command line; the program ends by `print_process`.
        python: The interpreter, for a contender that needs an environment of its own.
    """
    load = load_average()
    done = subprocess.run([python, "-m", program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return f"exit {done.returncode}: {said[-1] if said else 'nothing was said'}"
    turn: Turn = json.loads(done.stdout.strip().splitlines()[-1])
    return {**turn, "load_before": load}


def print_process(turn: Turn, packages: tuple[str, ...]) -> None:
    """Print a run's result with its peak of resident memory and package versions, as JSON."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = {**turn, "peak_bytes": peak, "packages": package_versions(packages)}
    sys.stdout.write("\n" + json.dumps(told) + "\n")
