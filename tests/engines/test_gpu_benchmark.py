"""The GPU benchmark without a GPU: plans, stages that fail or hang, the report, and the whole program on the CPU."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from alterbute.backends.cuda.driver import Driver, Gpu

from benchmarks.gpu import main
from benchmarks.gpu.contenders import find_recipe
from benchmarks.gpu.gpu_machine import CONTENDERS, GpuMachine, probe_machine
from benchmarks.gpu.report import describe_results, draw_plot
from benchmarks.gpu.roofline import floor_ms, graph_work, read_ceilings
from benchmarks.gpu.stage_plan import RESERVE_S, GpuJob, Stage, describe_plan, make_plan
from benchmarks.gpu.stages import list_stages, step_session
from benchmarks.gpu.stages.edits import RunOutput, compare, summary
from benchmarks.gpu.stages.kernels import summarize_kernels
from benchmarks.gpu.stages.step_graphs import step_variants
from benchmarks.gpu.stages.step_session import step_feed
from tests.support import fake_stages

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "engines" / "demo"
H100 = Driver(cuda="13.0", gpu=Gpu(name="NVIDIA H100 80GB HBM3", capability="9.0", memory=1), reason="")
WORTH = ["machine", "product", "parity", "graphs", "kernels", "torch", "compile", "batches", "torch-batches"]
# What a stage may take beyond the seconds that were given: the end of its process, on a machine under load.
GRACE_S = 20


def _stage(name: str, **changes: Any) -> Stage:
    fields = {"name": name, "measures": "nothing", "seconds": 1, "limit": 60, "run": getattr(fake_stages, name)}
    return Stage(**{**fields, "needs_bundle": False, **changes})


def _run(tmp_path: Path, *stages: Stage, seconds: float = 300) -> tuple[int, dict[str, Any]]:
    """Exit code and stored entries of a run of stages."""
    job = GpuJob(bundle=str(tmp_path / "none"), sdxl="", checkpoint="", work=str(tmp_path), out=str(tmp_path))
    code = main.measure(make_plan(stages, seconds, {}), job, _machine(), seconds)
    stored: dict[str, Any] = json.loads((tmp_path / main.RESULTS_FILE).read_text())["stages"]
    return code, stored


def _machine(driver: Driver | None = None) -> GpuMachine:
    return replace(probe_machine(), driver=driver or Driver(cuda="0.0", gpu=None, reason="no driver"), missing={})


def _planned(minutes: float, *, has_bundle: bool = True, has_sdxl: bool = False) -> list[str]:
    stages = list_stages(has_bundle=has_bundle, has_sdxl=has_sdxl)
    return [planned.stage.name for planned in make_plan(stages, 60 * minutes, {}) if not planned.reason]


@pytest.mark.parametrize("minutes", [2, 4, 6, 10, 15, 60])
def test_a_plan_fits_its_minutes_and_keeps_the_order_of_worth(minutes: float) -> None:
    stages = list_stages(has_bundle=True, has_sdxl=False)
    plan = make_plan(stages, 60 * minutes, {})
    runs = [planned for planned in plan if not planned.reason]
    assert sum(planned.stage.seconds for planned in runs) + RESERVE_S <= 60 * minutes
    assert [planned.begin for planned in runs] == sorted(planned.begin for planned in runs)
    assert [planned.stage for planned in plan] == list(stages)
    assert all("s are left" in planned.reason for planned in plan if planned.reason)
    assert all(0 < stage.seconds <= stage.limit for stage in stages)


def test_ten_minutes_hold_what_is_worth_most_and_fewer_hold_what_fits_in_that_order() -> None:
    assert _planned(10) == WORTH
    assert _planned(2) == ["machine", "product", "kernels"]
    assert _planned(6) == ["machine", "product", "parity", "graphs", "kernels", "torch"]
    assert _planned(60) == [*WORTH, "tensorrt", "tensorrt-rtx", "sdxl"]
    assert _planned(12, has_sdxl=True) == [*WORTH, "sdxl"]


def test_a_bundle_that_was_not_given_is_made_first_and_only_where_something_needs_it() -> None:
    assert _planned(10, has_bundle=False)[:3] == ["machine", "bundle", "product"]
    stages = list_stages(has_bundle=False, has_sdxl=False)
    none = replace(_machine(), missing=dict.fromkeys(CONTENDERS, "no driver"))
    assert main.find_missing(stages, none, (), is_smoke=False)["bundle"] == "no stage that needs it can run"
    assert "bundle" not in main.find_missing(stages, _machine(H100), ("product",), is_smoke=False)
    assert main.find_missing(stages, _machine(H100), ("machine",), is_smoke=False).keys() == {
        stage.name for stage in stages if stage.name != "machine"
    }


def test_a_dry_run_prints_the_plan_and_what_the_machine_lacks() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.main", "--dry-run", "--bundle", str(DEMO)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.returncode == 0, process.stderr[-2000:]
    for name, reason in probe_machine().missing.items():
        assert f"lacks     {name}: {reason}" in process.stdout
    assert [line.split()[3] for line in process.stdout.splitlines()[-12:]] == [
        *WORTH,
        "tensorrt",
        "tensorrt-rtx",
        "sdxl",
    ]


def test_a_stage_that_was_not_planned_for_time_runs_if_those_before_it_were_fast(tmp_path: Path) -> None:
    stages = (_stage("passing", seconds=90, limit=90), _stage("failing", seconds=20))
    plan = make_plan(stages, 100, {})
    assert plan[1].reason.endswith("5 s are left")
    assert "SKIPPED: it takes about 20 s" in describe_plan(plan, 100)
    _, stored = _run(tmp_path, *stages, seconds=100)
    assert stored["failing"]["cases"].keys() == {"a", "c"}


def test_stages_that_fail_crash_or_hang_cost_only_their_own_case(tmp_path: Path) -> None:
    stages = (
        _stage("failing"),
        _stage("importing"),
        _stage("crashing"),
        _stage("hanging_case", case_limit=2),
        _stage("hanging", limit=8),
        _stage("lacking"),
        _stage("passing"),
    )
    code, stored = _run(tmp_path, *stages)
    assert code == 1
    status = {name: entry["status"] for name, entry in stored.items()}
    assert status == {
        "failing": "partly failed",
        "importing": "failed",
        "crashing": "partly failed",
        "hanging_case": "partly failed",
        "hanging": "partly failed",
        "lacking": "skipped",
        "passing": "ok",
    }
    assert stored["failing"]["failed"] == {"b": "TimeoutError: no kernel in BUNDLE"}
    cases = stored["failing"]["cases"]
    assert cases.keys() == {"a", "c"}
    assert cases["a"]["process"] != cases["c"]["process"], "a case after a failure needs a process of its own"
    assert "no_such_module" in stored["importing"]["reason"]
    assert stored["crashing"]["failed"]["a"].startswith("its process ended with signal 11")
    assert stored["crashing"]["cases"].keys() == {"b"}
    assert stored["hanging_case"]["failed"]["a"] == 'killed after 2 s, the limit of a case; found so far: {"part": 1}'
    assert stored["hanging_case"]["cases"].keys() == {"b"}
    assert stored["hanging"]["reason"] == "killed at the stage's time limit"
    assert stored["hanging"]["cases"].keys() == {"a"}
    assert stored["lacking"]["reason"] == "this torch has no CUDA device"
    report = (tmp_path / "report.md").read_text()
    assert "b: TimeoutError: no kernel in BUNDLE" in report


def test_the_exit_code_is_0_only_if_something_ran_and_nothing_failed(tmp_path: Path) -> None:
    assert _run(tmp_path, _stage("passing"))[0] == 0
    assert _run(tmp_path, _stage("passing"), _stage("lacking"))[0] == 0
    assert _run(tmp_path, _stage("lacking"))[0] == 1
    assert _run(tmp_path, _stage("passing", needs_bundle=True))[0] == 1


def test_the_minutes_are_kept_whatever_the_stages_do(tmp_path: Path) -> None:
    begin = time.monotonic()
    _, stored = _run(tmp_path, _stage("hanging", limit=1000), _stage("passing"), seconds=15)
    assert time.monotonic() - begin < 15 + GRACE_S
    assert stored["hanging"]["cases"].keys() == {"a"}
    assert "s are left" in stored["passing"]["reason"]


def test_cases_that_do_not_fit_are_left_out_and_named(tmp_path: Path) -> None:
    code, stored = _run(tmp_path, _stage("slow_cases", limit=6))
    entry = stored["slow_cases"]
    assert code == 0
    assert entry["status"] == "ok"
    assert 1 <= len(entry["cases"]) < 100
    assert len(entry["cases"]) + len(entry["left_out"]) == 100
    assert entry["reason"].startswith("left out for time: case ")


def test_results_are_written_after_every_case(tmp_path: Path) -> None:
    seen: list[int] = []
    job = GpuJob(bundle="", sdxl="", checkpoint="", work=str(tmp_path), out=str(tmp_path))
    stages = (_stage("slow_cases", limit=6),)

    def save(entries: dict[str, Any]) -> None:
        seen.append(len(entries["slow_cases"]["cases"]))

    from benchmarks.gpu.stage_runner import run_plan

    run_plan(make_plan(stages, 100, {}), job, 100, dict, save)
    assert seen == sorted(seen)
    assert set(range(seen[-1] + 1)) <= set(seen)


def test_every_entry_records_card_versions_clocks_and_commit(tmp_path: Path) -> None:
    _, stored = _run(tmp_path, _stage("passing"))
    for when in ("before", "after"):
        facts = stored["passing"][when]
        assert {"card", "driver", "packages", "commit", "weights"} <= facts.keys()
        assert any("clocks.sm" in name for name in facts)
    assert stored["passing"]["before"]["weights"] == "random"
    assert stored["passing"]["measures"]


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
    driver = Driver(cuda="13.0", gpu=Gpu(name=gpu, capability="9.0", memory=1), reason="")
    assert find_recipe("tensorrt", replace(probe_machine(), driver=driver)) == recipe


def test_parity_requires_small_finite_errors() -> None:
    reference = RunOutput(latents=np.ones((4, 8, 8), np.float32), picture=np.full((8, 8, 3), 100.0, np.float32))
    near = RunOutput(latents=reference.latents + 0.005, picture=reference.picture + 1)
    far = RunOutput(latents=reference.latents + 0.5, picture=reference.picture)
    broken = RunOutput(latents=reference.latents * np.nan, picture=reference.picture)
    passes = [compare(output, reference)["passes"] for output in (reference, near, far, broken)]
    assert passes == [True, True, False, False]


def test_the_steps_inputs_are_the_same_everywhere_and_each_slot_has_its_rows() -> None:
    feed, again = (step_feed(str(DEMO), 2, 4) for _ in range(2))
    assert all(np.array_equal(feed[name], again[name]) for name in feed)
    assert feed["owner"].tolist() == [0, 0, 1, 1]
    assert feed["rescale_row"].tolist() == [0, 2]
    assert (feed["guidance"] != 0).tolist() == [[True, True, False, False], [False, False, True, True]]


def test_every_step_graph_of_the_folder_is_a_variant(tmp_path: Path) -> None:
    shutil.copyfile(DEMO / "manifest.json", tmp_path / "manifest.json")
    (tmp_path / "step.other.onnx").write_bytes(b"")
    (tmp_path / "step.fp16.prologue.onnx").write_bytes(b"")
    variants = step_variants(str(tmp_path))
    assert next(iter(variants)) == "as the product"
    assert variants["file step.other.onnx"].is_static
    assert variants["static, NHWC"].options == {"prefer_nhwc": "1"}
    assert not [name for name in variants if "prologue" in name]


class _Session:
    """A session with these inputs and outputs, each output all ones."""

    def __init__(self, inputs: list[str], outputs: list[str]) -> None:
        self._names = inputs, outputs

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._names[0]]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self._names[1]]

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        assert inputs.keys() == set(self._names[0])
        return [np.ones(1) for _ in names]


def test_inputs_that_a_prologue_computes_are_found_by_its_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = {
        "step.cuda.onnx": _Session(["state", "keys"], ["next_state"]),
        "step.a.prologue.onnx": _Session(["text"], ["values"]),
        "step.b.prologue.onnx": _Session(["text"], ["keys", "values"]),
    }
    for name in sessions:
        (tmp_path / name).touch()
    bound: dict[str, Any] = {}
    monkeypatch.setattr(step_session, "_open_session", lambda path, options, sizes: sessions[path.name])
    monkeypatch.setattr(step_session, "StepSession", lambda session, feed, kind: bound.update(feed))
    feed = {"state": np.zeros(1), "text": np.zeros(1), "guidance": np.zeros((1, 2))}
    step_session.open_step(str(tmp_path), step_session.StepVariant(file="step.cuda.onnx"), feed)
    assert bound["keys"].tolist() == [1]
    del sessions["step.b.prologue.onnx"]
    (tmp_path / "step.b.prologue.onnx").unlink()
    with pytest.raises(RuntimeError, match=r"step\.cuda\.onnx needs \['keys'\]"):
        step_session.open_step(str(tmp_path), step_session.StepVariant(file="step.cuda.onnx"), feed)


def test_the_floor_is_the_greater_of_arithmetic_and_memory() -> None:
    ceilings = {"tflops": 800.0, "tb_per_s": 3.0}
    assert floor_ms(1600, 1720, ceilings) == pytest.approx(2.0)
    assert floor_ms(16, 1720, ceilings) == pytest.approx(1720 / 3000)
    assert floor_ms(16, None, ceilings) == pytest.approx(0.02)
    cases = {"p": {"tflops": 700.0}, "q": {"tflops": 800.0}, "copy": {"tb_per_s": 3.0}}
    assert read_ceilings({"machine": {"cases": cases}}) == ceilings


def test_the_work_of_the_graphs_is_that_of_the_bundles_audit() -> None:
    manifest = json.loads((DEMO / "manifest.json").read_text())
    work = graph_work(str(DEMO), "onnxruntime")
    (count,) = {
        variant["audit"]["multiply_adds"] for variant in manifest["graphs"]["step"]["variants"] if variant["audit"]
    }
    assert work["step"]["gflop"] == pytest.approx(2 * count / 1e9, rel=1e-3)
    assert work["step"]["weights_mb"] > 1


def test_kernels_are_summed_by_group() -> None:
    rows = [(2.0, 10.0, "sm90_xmma_fprop_implicit_gemm"), (1.0, 4.0, "nvjet_hsh_gemm"), (0.5, 1.0, "fmha_cutlass")]
    found = summarize_kernels(rows)
    assert found["groups_ms"] == {"convolution": 2.0, "product": 1.0, "attention": 0.5}
    assert (found["gpu_ms"], found["launches"]) == (3.5, 15.0)
    assert found["longest"][0] == [2.0, 10.0, "sm90_xmma_fprop_implicit_gemm"]


def test_the_report_marks_what_fails_parity_and_has_the_share_of_the_ceiling(tmp_path: Path) -> None:
    times = summary([0.2, 0.3])
    product = {"batch": 1, "edits_ms": times, "images_per_s": 4.0, "step_gpu_ms": 8.0, "host_share": 0.01}
    work = {"graphs": {"step": {"file": "step.onnx", "gflop": 1600.0, "weights_mb": 1720.0}}}
    wrong = {"step_ms": 4.0, "relative_error": 0.3, "passes": False}

    def entry(**cases: Any) -> dict[str, Any]:
        return {"status": "ok", "measures": "x", "cases": cases, "before": {"card": "H100", "weights": "random"}}

    stages = {
        "machine": entry(product={"tflops": 800.0}, copy={"tb_per_s": 3.0}),
        "product": entry(work=work, **{"batch 1": product}),
        "graphs": entry(wrong=wrong),
        "compile": {**entry(), "status": "failed", "failed": {"reduce-overhead": "ImportError: no triton"}},
    }
    text = describe_results({"stages": stages})
    assert "Measured on H100" in text and "Weights: random." in text
    assert "| product, batch 1 | 1 | 8.000 | 200 | 25.0% | 6.25 |" in text
    assert "| graphs, wrong | 1 | 4.000 | 400 | 50.0% | 12.50 | 3.0e-01 | FAILS PARITY |" in text
    assert "| step | 1600 | 1720.0 | 2 | 8.000 | 25.0% |" in text
    assert "| compile | failed |  | x | reduce-overhead: ImportError: no triton |" in text
    assert draw_plot({"stages": stages}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_product_that_fails_parity_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"status": "ok", "measures": "x", "cases": {"one step": {"passes": False}}}

    def run_plan(plan: Any, job: Any, seconds: Any, facts: Any, save: Any) -> dict[str, Any]:
        save({"parity": entry})
        return {"parity": entry}

    monkeypatch.setattr(main, "run_plan", run_plan)
    job = GpuJob(bundle="", sdxl="", checkpoint="", work="", out=str(tmp_path))
    assert main.measure((), job, _machine(), 60) == 1


def test_the_smoke_measures_the_demo_on_the_cpu_and_skips_the_rest_with_a_reason(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.main", "--smoke", "--bundle", str(DEMO), "--out", str(tmp_path)]
    process = subprocess.run(
        [*command, "--minutes", "20", "--weights", "trained"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    stages = json.loads((tmp_path / main.RESULTS_FILE).read_text())["stages"]
    ran = {name for name, entry in stages.items() if entry["status"] == "ok"}
    assert ran == {"machine", "product", "parity", "batches"}
    assert all("not part of the smoke" in stages[name]["reason"] for name in stages.keys() - ran)
    assert stages["product"]["cases"].keys() == {"work", "batch 1", "whole edits", "graphs"}
    assert stages["parity"]["cases"]["20 steps against the CPU"]["latents_relative"] <= 1e-5
    assert "Weights: trained." in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_torch_runs_the_same_step_with_the_bundles_own_weights(tmp_path: Path) -> None:
    from benchmarks.gpu.cases import SMOKE, make_model
    from benchmarks.gpu.stages.edits import relative_error
    from benchmarks.gpu.stages.step_session import open_fp32_step

    torch_step = importlib.import_module("benchmarks.gpu.torch_step")
    bundle = make_model(SMOKE, tmp_path)
    feed = step_feed(str(bundle))
    expected = open_fp32_step(str(bundle)).run(None, feed)[0]
    for is_half, limit in ((False, 1e-5), (True, 1e-2)):
        step, weights = torch_step.make_step(bundle, None, feed, "cpu", is_half=is_half)
        assert weights == "the bundle's"
        found = step(*torch_step.step_arguments(step, feed, "cpu")).detach().numpy()
        assert relative_error(found, expected) <= limit
