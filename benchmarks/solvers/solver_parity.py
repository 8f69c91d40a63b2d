"""Parity of the solver matrices with diffusers: whole trajectories, with a nonlinear function instead of the UNet.

    python -m benchmarks.solvers.solver_parity --out benchmarks/results/solver_parity.json

Every configuration is computed four times: by our matrices in float32, as the lane computes it, and in float64; by diffusers
unchanged, in float32, and with its arithmetic in float64. The error of a trajectory is the largest difference of any latent after
any UNet call, relative to the largest value after that call. Where diffusers' own rounding in float32 exceeds 1e-5, an exception
(`solver_cases.EXCEPTIONS`) limits the float64 error instead.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.machine import machine_facts
from benchmarks.common.results_file import write_results
from benchmarks.solvers.solver_cases import (
    ADAPTED,
    EXCEPTIONS,
    LIMIT,
    NO_REFERENCE,
    is_within_limit,
    name_exception,
    sweep,
)
from benchmarks.solvers.solver_walks import SolverCase, trajectory_errors


def measure(cases: list[SolverCase]) -> dict[str, Any]:
    """Worst errors and number of configurations, by solver and by exception, and the cases beyond their limit."""
    solvers: dict[str, Any] = {}
    exceptions: dict[str, Any] = {}
    failed = []
    for case in cases:
        name = name_exception(case)
        errors = trajectory_errors(case, leaves_out_last=bool(name and EXCEPTIONS[name].leaves_out_last))
        if not is_within_limit(case, errors):
            failed.append(f"{case}: {errors}")
        table, key = (exceptions, name) if name else (solvers, case.solver)
        row = table.setdefault(key, {"configurations": 0, "worst_float32": 0.0, "worst_float64": 0.0, "worst_at": ""})
        if name:
            row["cause"] = EXCEPTIONS[name].cause
        row["configurations"] += 1
        # Some of diffusers' latents are NaN under the exceptions.
        float32, float64 = (math.inf if math.isnan(error) else error for error in (errors.float32, errors.float64))
        if float32 > row["worst_float32"]:
            row |= {"worst_float32": float32, "worst_at": str(case)}
        row["worst_float64"] = max(row["worst_float64"], float64)
    return {"solvers": solvers, "exceptions": exceptions, "failed": failed}


def main() -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="result file (JSON); default: print only")
    options = parser.parse_args()
    cases = list(sweep())
    parity = measure(cases)
    for row in (*parity["solvers"].values(), *parity["exceptions"].values()):
        for key in ("worst_float32", "worst_float64"):
            row[key] = float(f"{row[key]:.1e}") if math.isfinite(row[key]) else "NaN"
    figures = {
        "configurations": len(cases),
        "limit": LIMIT,
        "worst_float32": max(row["worst_float32"] for row in parity["solvers"].values()),
        **parity,
        "adapted_reference": ADAPTED,
        "no_reference": NO_REFERENCE,
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "machine": machine_facts("diffusers", "torch", "numpy"),
    }
    write_results(options.out, figures)


if __name__ == "__main__":
    main()
