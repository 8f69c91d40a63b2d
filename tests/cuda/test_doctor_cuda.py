"""`alterbute doctor` and `edit` over the stand-in of CUDA: each fault of a machine's libraries is one line, and the CPU takes over.

The fixture `standin` has `libraries`, the folder of the stand-in's shared libraries, and `path`, the folders of cuda-bindings' shim
and of onnxruntime-gpu.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# A driver for CUDA 12.8 with one GPU, and a GPU without free memory.
OLD_DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { name[0] = 'G'; name[1] = 0; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = 8; return 0; }
int cuDeviceTotalMem_v2(unsigned long *size, int device) { *size = 1ul << 34; return 0; }
"""
FULL = "int cudaMalloc(void **address, unsigned long size) { return 2; }"


@pytest.fixture
def libraries(standin: Any, tmp_path: Path) -> Path:
    """A folder with links to the stand-in's libraries, from which a test takes some away."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    for file in Path(standin.libraries).iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def take_away(libraries: Path, file: str) -> None:
    """Remove a library; the test is skipped on a machine that has one of its own, because the loader would find that."""
    (libraries / file).unlink()
    try:
        ctypes.CDLL(file)
    except OSError:
        return
    pytest.skip(f"this machine has a {file} of its own")


def build(text: str, target: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    target.unlink(missing_ok=True)
    source = target.with_suffix(".c")
    source.write_text(text)
    subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{target.name}", "-o", target, source], check=True)
    return target


def run(
    standin: Any, libraries: Path, *arguments: str, folder: Path | None = None, preload: str = ""
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, standin.path), str(ROOT / "runtime")])
    environment = {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(libraries), "LD_PRELOAD": preload}
    command = [sys.executable, "-m", "alterbute.cli", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def examine(standin: Any, libraries: Path, preload: str = "") -> dict[str, Any]:
    done = run(standin, libraries, "doctor", "--json", preload=preload)
    assert "Traceback" not in done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["exit_code"] == done.returncode, done.stderr
    assert all("\n" not in line for line in report["problems"])
    return report


def test_with_all_libraries_the_gpu_is_chosen_and_an_edit_runs_on_it(standin: Any, libraries: Path) -> None:
    report = examine(standin, libraries)
    assert (report["exit_code"], report["chosen"], report["problems"]) == (0, "onnxruntime-cuda", [])
    assert report["device"] == report["gpus"][0]["name"]
    assert report["trial"]["what"].startswith("one edit of 2 steps")
    assert not [library for library in report["libraries"] if library["fault"]]


@pytest.mark.parametrize("file", ["libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9"])
def test_a_missing_library_is_one_problem_and_the_cpu_takes_over(standin: Any, libraries: Path, file: str) -> None:
    take_away(libraries, file)
    report = examine(standin, libraries)
    assert (report["exit_code"], report["chosen"]) == (1, "onnxruntime")
    assert report["trial"] is not None
    (problem,) = report["problems"]
    assert problem.startswith(f"backend onnxruntime-cuda cannot be used: {file} does not load (")
    assert "pip install --upgrade 'alterbute[cuda]'" in problem
    assert file in [library["file"] for library in report["libraries"] if library["fault"]]


def test_a_library_of_another_version_is_named(standin: Any, libraries: Path) -> None:
    shutil.copy(libraries / "libcurand.so.10", libraries / "libcurand.so.9")
    take_away(libraries, "libcurand.so.10")
    (problem,) = examine(standin, libraries)["problems"]
    assert "libcurand.so.10 does not load (" in problem
    assert "and libcurand.so.9 is of another version" in problem


def test_a_driver_that_is_too_old_is_one_problem(standin: Any, libraries: Path) -> None:
    build(OLD_DRIVER, libraries / "libcuda.so.1")
    report = examine(standin, libraries)
    assert (report["exit_code"], report["chosen"], report["driver"]["cuda"]) == (1, "onnxruntime", "12.8")
    (problem,) = report["problems"]
    assert "the NVIDIA driver supports CUDA 12.8" in problem
    assert "is built for CUDA 13" in problem
    assert "update the NVIDIA driver" in problem


def test_no_driver_is_no_problem(standin: Any, libraries: Path) -> None:
    take_away(libraries, "libcuda.so.1")
    report = examine(standin, libraries)
    assert (report["exit_code"], report["chosen"], report["problems"]) == (0, "onnxruntime", [])
    assert "there is no NVIDIA driver" in report["driver"]["reason"]


def test_a_full_gpu_is_one_problem_and_the_cpu_takes_over(standin: Any, libraries: Path, tmp_path: Path) -> None:
    full = build(FULL, tmp_path / "libfull.so")
    report = examine(standin, libraries, str(full))
    assert (report["exit_code"], report["chosen"]) == (1, "onnxruntime")
    (problem,) = report["problems"]
    assert problem.startswith("backend onnxruntime-cuda cannot be used: ")
    assert "memory" in problem


def test_an_edit_without_cudnn_warns_in_one_line_and_is_made_on_the_cpu(
    standin: Any, libraries: Path, tmp_path: Path
) -> None:
    take_away(libraries, "libcudnn.so.9")
    done = run(standin, libraries, "edit", "--quiet", "--steps", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sample-edited.png").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "warning: backend onnxruntime-cuda skipped, onnxruntime runs instead: libcudnn.so.9 does not load"
    )


def test_a_backend_chosen_by_name_is_an_error_in_one_line(standin: Any, libraries: Path, tmp_path: Path) -> None:
    take_away(libraries, "libcudnn.so.9")
    done = run(standin, libraries, "edit", "--backend", "onnxruntime-cuda", "--steps", "1", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: libcudnn.so.9 does not load")
    assert not list(tmp_path.glob("*.png"))
