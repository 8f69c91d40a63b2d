"""Promises of `alterbute doctor`: what it reports, its exit code, and that no fault of a machine ends it with a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alterbute import diagnosis
from alterbute.backends import BackendChoice, choose_backend
from alterbute.backends.cuda import inventory as inventory_module
from alterbute.backends.cuda.driver import Driver, Gpu
from alterbute.backends.cuda.inventory import GpuMemory, Inventory, take_inventory
from alterbute.backends.cuda.libraries import CudaLibrary
from alterbute.bundle import Bundle, default_bundle_path, open_bundle
from alterbute.cli import doctor as doctor_module
from alterbute.cli import main
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, DeviceError, EngineError

from tests.support.engines import write_engines

H100 = Gpu(name="NVIDIA H100 80GB HBM3", capability="9.0", memory=80 << 30)
NO_DRIVER = Driver(cuda="0.0", gpu=None, reason="there is no NVIDIA driver (libcuda.so.1 does not load)")
WITHOUT_GPU = Inventory(
    driver=NO_DRIVER, driver_version=None, gpus=(), packages={"onnxruntime": "1.32.0"}, libraries=(), conflict=""
)
WITH_GPU = Inventory(
    driver=Driver(cuda="13.0", gpu=H100, reason=""),
    driver_version="580.65.06",
    gpus=(GpuMemory(gpu=H100, free=70 << 30),),
    packages={"onnxruntime-gpu": "1.31.1", "cuda-bindings": "13.5.0"},
    libraries=(
        CudaLibrary(name="cuBLAS", file="libcublas.so.13", version="13.10.0", fault=""),
        CudaLibrary(name="cuDNN", file="libcudnn.so.9", version=None, fault="cannot open shared object file"),
    ),
    conflict="",
)
NO_GPU = EngineError("onnxruntime-cuda needs an NVIDIA GPU", "a GPU", "choose backend onnxruntime")
NO_CUDNN = EngineError("libcudnn.so.9 does not load", "cuDNN 9", "run `pip install --upgrade 'alterbute[cuda]'`")
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Set what is found on the machine, and what opening each backend raises; None opens it, computing on the CPU."""

    def make(found: Inventory, **faults: Exception | None) -> None:
        def choose(name: str, bundle: Bundle, **options: Any) -> BackendChoice:
            fault = faults.get(name.replace("-", "_"), EngineError(f"{name} is not here", "it", "install it"))
            if fault is not None:
                raise fault
            backend = choose_backend("onnxruntime", bundle, threads=1).backend
            device = "cpu" if name == "onnxruntime" else H100.name
            return BackendChoice(name=name, backend=backend, device=device)

        monkeypatch.setattr(diagnosis, "take_inventory", lambda device: found)
        monkeypatch.setattr(diagnosis, "choose_backend", choose)

    return make


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *arguments])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == code
    return code, report


def test_a_machine_without_gpu_is_well_with_the_cpu(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine(WITHOUT_GPU, onnxruntime_cuda=NO_GPU, onnxruntime=None)
    code, report = run_json(capsys)
    assert code == 0
    assert (report["chosen"], report["device"], report["problems"]) == ("onnxruntime", "cpu", [])
    assert report["driver"] == {"version": None, "cuda": None, "reason": NO_DRIVER.reason}
    status = {entry["name"]: (entry["status"], entry["reason"]) for entry in report["backends"]}
    assert list(status) == ["tensorrt", "tensorrt_rtx", "onnxruntime-cuda", "onnxruntime"]
    assert status["onnxruntime-cuda"] == ("unusable", str(NO_GPU))
    assert status["onnxruntime"] == ("chosen", "runs on cpu")
    assert report["trial"]["what"] == "one edit of 2 steps at 64x64"
    assert report["trial"]["seconds"] > 0


def test_the_keys_of_the_document_are_those_of_the_docstring(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(WITH_GPU, onnxruntime_cuda=None)
    _, report = run_json(capsys)
    text = (doctor_module.__doc__ or "").split("\n\n")[2]
    items = [re.findall(r"`(\w+)`", line.split(":")[0]) for line in text.split("\n- ")]
    assert [name for names in items for name in names] == list(report)
    for key in ("gpus", "libraries", "backends"):
        (line,) = (line for line in text.split("\n- ") if line.lstrip("- ").startswith(f"`{key}`"))
        assert set(report[key][0]) <= set(re.findall(r"`(\w+)`", line)), key


def test_a_gpu_that_works_is_chosen_and_the_cpu_is_not_tried(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(WITH_GPU, onnxruntime_cuda=None, onnxruntime=AssertionError("it is not tried"))
    code, report = run_json(capsys)
    assert code == 0
    assert (report["chosen"], report["device"]) == ("onnxruntime-cuda", H100.name)
    assert report["backends"][-1] == {
        "name": "onnxruntime",
        "status": "not tried",
        "reason": "onnxruntime-cuda is faster",
    }
    assert report["gpus"] == [
        {"name": H100.name, "capability": "9.0", "memory_bytes": 80 << 30, "free_bytes": 70 << 30}
    ]


def test_a_gpu_that_cannot_be_used_is_a_problem_with_cause_and_cure_although_the_cpu_works(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(WITH_GPU, onnxruntime_cuda=NO_CUDNN, onnxruntime=None)
    code, report = run_json(capsys)
    assert code == 1
    assert report["chosen"] == "onnxruntime"
    assert report["trial"] is not None
    assert report["problems"] == [f"backend onnxruntime-cuda cannot be used: {NO_CUDNN}"]
    assert report["libraries"][1]["fault"] == "cannot open shared object file"


def test_a_broken_driver_is_a_problem(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    broken = replace(NO_DRIVER, reason="cuInit gives 803", is_broken=True)
    machine(replace(WITHOUT_GPU, driver=broken), onnxruntime_cuda=NO_GPU, onnxruntime=None)
    assert run_json(capsys)[0] == 1


def test_engines_of_a_bundle_count_only_where_there_is_a_gpu(
    machine: Machine, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(write_engines(tiny_bundle, tmp_path / "bundle").path)
    misfit = EngineError("the engine is for another GPU", "an H200", "rebuild it")
    machine(WITHOUT_GPU, tensorrt=misfit, onnxruntime=None)
    assert run_json(capsys, bundle)[0] == 0
    machine(WITH_GPU, tensorrt=misfit, onnxruntime_cuda=None)
    code, report = run_json(capsys, bundle)
    assert code == 1
    assert report["chosen"] == "onnxruntime-cuda"
    assert report["problems"] == [f"backend tensorrt cannot be used: {misfit}"]


def test_a_named_backend_is_the_only_one_tried(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine(WITHOUT_GPU, onnxruntime_cuda=NO_GPU, onnxruntime=None)
    code, report = run_json(capsys, "--backend", "onnxruntime-cuda")
    assert code == 1
    assert (report["chosen"], report["trial"]) == (None, None)
    assert [entry["status"] for entry in report["backends"]] == ["not tried", "not tried", "unusable", "not tried"]
    assert run_json(capsys, "--backend", "onnxruntime")[0] == 0


def test_nothing_that_runs_is_a_report_with_every_reason(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine(WITHOUT_GPU)
    code, report = run_json(capsys)
    assert code == 1
    assert (report["chosen"], report["device"], report["trial"]) == (None, None, None)
    assert all("is not here" in entry["reason"] for entry in report["backends"])
    assert ["onnxruntime is not here" in line for line in report["problems"]] == [True]


def test_a_lost_gpu_ends_the_search(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    lost = DeviceError("the GPU is lost", "a healthy device", "restart", is_fatal=True)
    machine(WITH_GPU, onnxruntime_cuda=lost, onnxruntime=AssertionError("it is not tried"))
    code, report = run_json(capsys)
    assert (code, report["chosen"]) == (1, None)
    assert report["backends"][-1]["reason"] == "the GPU is lost to this process"


@pytest.mark.parametrize(
    "fault", [RuntimeError("no data transfer\nregistered"), DeviceError("the graph failed", "a run", "see the log")]
)
def test_a_run_that_fails_is_a_problem_in_one_line_and_no_traceback(
    fault: Exception, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise fault

    machine(WITH_GPU, onnxruntime_cuda=None)
    monkeypatch.setattr(Editor, "edit", fail)
    code, report = run_json(capsys)
    assert (code, report["chosen"], report["trial"]) == (1, "onnxruntime-cuda", None)
    (problem,) = report["problems"]
    assert problem.startswith("backend onnxruntime-cuda fails at a short run: ")
    assert "\n" not in problem


def test_a_large_bundle_on_the_cpu_runs_its_prompt_graph_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnosis, "_LARGE_BYTES", 1)
    monkeypatch.setattr(Editor, "edit", AssertionError)
    machine(WITHOUT_GPU, onnxruntime=None)
    code, report = run_json(capsys)
    assert code == 0
    assert report["trial"]["what"].startswith("the prompt graph alone, because the bundle has ")


def test_the_report_for_people_names_everything_in_lines(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    conflict = "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are both installed"
    machine(replace(WITH_GPU, conflict=conflict), onnxruntime_cuda=NO_CUDNN, onnxruntime=None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    for words in (
        "driver     580.65.06, supports CUDA 13.0",
        "gpu        0: NVIDIA H100 80GB HBM3, compute capability 9.0, 70.0 of 80.0 GiB free",
        "packages   onnxruntime-gpu 1.31.1, cuda-bindings 13.5.0",
        "libraries  cuBLAS 13.10.0",
        "library    libcudnn.so.9 does not load (cannot open shared object file)",
        f"bundle     {open_bundle(default_bundle_path()).manifest.name}",
        f"backend    onnxruntime-cuda: unusable, {NO_CUDNN}",
        "backend    onnxruntime: chosen, runs on cpu",
        "run        one edit of 2 steps at 64x64: ",
        f"note       {conflict}",
        f"problem    backend onnxruntime-cuda cannot be used: {NO_CUDNN}",
        "result     not all that this machine should have works",
    ):
        assert words in out


@pytest.mark.parametrize("arguments", [["/nonexistent"], ["--backend", "directml"]])
def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_this_machine_is_described_without_an_exception() -> None:
    found = take_inventory()
    assert found.packages
    assert len(found.gpus) > 0 or found.driver.gpu is None


def test_memory_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bindings:
        def cudaSetDevice(self, device: int) -> tuple[int]:
            return (0 if device < 2 else 101,)

        def cudaMemGetInfo(self) -> tuple[int, int, int]:
            return 0, 1 << 30, 1 << 31

    def fail() -> AlterbuteError:
        raise NO_CUDNN

    monkeypatch.setattr(inventory_module, "probe_gpus", lambda: (H100, H100, H100))
    for load, free in ((Bindings, [1 << 30, 1 << 30, None]), (fail, [None] * 3), (object, [None] * 3)):
        monkeypatch.setattr(inventory_module, "load_cuda", load)
        assert [entry.free for entry in take_inventory().gpus] == free
