"""The GPU benchmark without a GPU: dry run, parity limits, report, and the whole program on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.cases import cases
from benchmarks.gpu.contenders import find_recipe
from benchmarks.gpu.gpu_machine import CONTENDERS, probe_machine
from benchmarks.gpu.measure import RunOutput, compare, summary
from benchmarks.gpu.report import plot, table

ROOT = Path(__file__).parents[2]


def test_a_dry_run_prints_why_each_contender_cannot_run() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu" / "main.py"), "--dry-run"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    machine = probe_machine()
    for name in CONTENDERS:
        assert f"{name:<19} {machine.missing.get(name, 'runs')}" in process.stdout
    assert "SDXL 1024x1024, 20 steps, guided, batch 8: 16 rows a launch" in process.stdout


def test_cases_cover_steps_with_and_without_guidance_at_every_batch_size() -> None:
    assert [(case.steps, case.batch, case.rows) for case in cases()] == [
        (20, 1, 2), (20, 2, 4), (20, 4, 8), (20, 8, 16), (4, 1, 1), (4, 2, 2), (4, 4, 4), (4, 8, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gpu", "recipe"),
    [
        ("NVIDIA H200", "h200_fp16"),
        ("NVIDIA H100 80GB HBM3", "h100_fp16"),
        ("NVIDIA A100-SXM4-40GB", "a100_fp16"),
        ("NVIDIA L40S", "l40s_fp16"),
        ("Tesla T4", ""),
    ],
)
def test_the_recipe_is_chosen_by_the_gpus_name(gpu: str, recipe: str) -> None:
    from dataclasses import replace

    from alterbute.backends.cuda.driver import Driver, Gpu

    driver = Driver(cuda="13.0", gpu=Gpu(name=gpu, capability="9.0", memory=1), reason="")
    assert find_recipe("tensorrt", replace(probe_machine(), driver=driver)) == recipe


def test_parity_requires_small_finite_errors() -> None:
    import numpy as np

    reference = RunOutput(latents=np.ones((4, 8, 8), np.float32), picture=np.full((8, 8, 3), 100.0, np.float32))
    near = RunOutput(latents=reference.latents + 0.005, picture=reference.picture + 1)
    far = RunOutput(latents=reference.latents + 0.5, picture=reference.picture)
    broken = RunOutput(latents=reference.latents * np.nan, picture=reference.picture)
    assert [compare(output, reference)["passes"] for output in (reference, near, far, broken)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_contender_that_failed_has_a_row_and_no_times(tmp_path: Path) -> None:
    case = {
        "case": "20 steps, guided, batch 1",
        "edits_ms": summary([0.2, 0.3]),
        "step_gpu_ms": 9.0,
        "host_share": 0.01,
    }
    results: list[dict[str, Any]] = [
        {
            "model": "SD1.5",
            "contender": "torch-fp32",
            "cases": [{**case, "achieved_tflops": 178.0, "share_of_peak": 0.18}],
        },
        {
            "model": "SD1.5",
            "contender": "tensorrt",
            "parity": {"latents_relative": 0.5, "psnr_db": 12.0, "passes": False},
        },
        {"model": "SD1.5", "contender": "tensorrt_rtx", "error": "refused"},
    ]
    markdown = table(json.loads(json.dumps(results)))
    assert "| 300.0 | 9.00 | 1.0% | 178 | 18% |" in markdown
    assert "fails parity: not timed" in markdown
    assert "refused" in markdown
    plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_program_runs_on_the_cpu_within_the_parity_limits(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu" / "main.py"), "--smoke", "--runs", "2"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "r")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert [result["contender"] for result in results] == ["torch-cpu", "onnxruntime"]
    assert results[1]["parity"]["latents_relative"] <= 1e-5
    assert all(len(result["cases"]) == 4 for result in results)
