"""Every solver's matrices reproduce the trajectory of diffusers' scheduler, over a sweep of configs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from alterbute.solver import SOLVERS

from benchmarks.solvers.solver_cases import EXCEPTIONS, LIMIT, is_within_limit, name_exception, sweep
from benchmarks.solvers.solver_parity import measure
from benchmarks.solvers.solver_walks import SolverCase, trajectory_errors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CASES = list(sweep())
# Every 14th configuration, and one of each exception; trajectories of up to 50 steps take milliseconds.
SHORT = [case for case in CASES if case.steps <= 50]
SAMPLE = SHORT[::14]
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "solver_parity.json"


def _first_of_each_exception() -> list[SolverCase]:
    first: dict[str, SolverCase] = {}
    for case in SHORT:
        if name := name_exception(case):
            first.setdefault(name, case)
    return list(first.values())


@pytest.mark.parametrize("case", [*SAMPLE, *_first_of_each_exception()], ids=str)
def test_trajectory_is_that_of_diffusers(case: SolverCase) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.0.0" and case.options.get("sigmas") == "exponential":
        pytest.skip(
            "with NumPy 1, diffusers rounds these sigmas' timesteps otherwise: 999 for 998.99; ours do not change"
        )
    name = name_exception(case)
    errors = trajectory_errors(case, leaves_out_last=bool(name and EXCEPTIONS[name].leaves_out_last))
    assert is_within_limit(case, errors), errors


def test_sample_holds_every_solver_and_at_least_60_configurations() -> None:
    assert len(SAMPLE) >= 60
    assert {case.solver for case in SAMPLE} == set(SOLVERS)


def test_exceptions_are_rare() -> None:
    assert sum(1 for case in CASES if name_exception(case)) < len(CASES) / 10


def test_committed_figures_are_of_this_sweep_and_within_the_limit() -> None:
    figures = json.loads(RESULTS.read_text())
    assert figures["configurations"] == len(CASES) >= 500
    assert not figures["failed"]
    assert set(figures["exceptions"]) == set(EXCEPTIONS)
    assert set(figures["solvers"]) == set(SOLVERS)
    assert max(row["worst_float32"] for row in figures["solvers"].values()) <= LIMIT


@pytest.mark.slow
def test_every_trajectory_is_that_of_diffusers() -> None:
    figures = measure(CASES)
    assert not figures["failed"], figures["failed"]
