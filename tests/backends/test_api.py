"""Every name that is used of an engine library exists in the real one, with the parameters it is used with.

The protocols in `tensorrt_api`, `engine/api` and `cuda` say what is used (mypy allows nothing else); the real modules are
asked what they have. TensorRT 11.4's own bindings need its libraries, which no package index has: nine symbols stand in.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pytest
from alterbute.backends.cuda import runtime as cuda
from alterbute.backends.tensorrt import api as tensorrt_api
from alterbute.backends.tensorrt import module as tensorrt_module
from alterbute_export.engine import api as builder_api
from alterbute_export.engine import module as builder_module

_SYMBOLS = {
    "libnvinfer.so.11": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvonnxparser.so.11": (
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
    "libnvinfer_plugin.so.11": ("initLibNvInferPlugins",),
}
# What only TensorRT-RTX has, and `RtxModule` is for.
_RTX_ONLY = {"dynamic_shapes_kernel_specialization_strategy", "DynamicShapesKernelSpecializationStrategy"}
_PLACES = {"Severity": ("ILogger", "Severity")}


def _dump(*arguments: str) -> dict[str, Any]:
    script = Path(__file__).with_name("dump_bindings.py")
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def tensorrt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The real 11.4 bindings over stand-in libraries."""
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("tensorrt-cu13-bindings is not installed")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the stand-in libraries")
    folder = tmp_path_factory.mktemp("stand-ins")
    for library, symbols in _SYMBOLS.items():
        source = folder / f"{library}.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source)]
        subprocess.run(command, check=True, capture_output=True)
    return _dump("tensorrt", str(folder))


@pytest.fixture(scope="module")
def tensorrt_rtx() -> dict[str, Any]:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt-rtx-cu13 is not installed")
    return _dump("tensorrt_rtx")


@pytest.fixture(scope="module")
def cuda_bindings() -> dict[str, Any]:
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.bindings") is None:
        pytest.skip("cuda-bindings is not installed")
    return _dump("cuda")


def _used(module: ModuleType) -> dict[str, type]:
    """The protocols that a module defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and getattr(value, "_is_protocol", False) and value.__module__ == module.__name__
    }


def _members(protocol: type) -> dict[str, Any]:
    names = {*protocol.__annotations__, *vars(protocol)} - {"_is_protocol", "_abc_impl"}
    return {name: vars(protocol).get(name) for name in names if not name.startswith("_") and not name.startswith("__")}


def find_missing(protocols: dict[str, type], real: dict[str, Any], excused: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Names of the protocols that the real module lacks, and methods whose parameters it does not know."""
    missing = []
    for name, protocol in protocols.items():
        place: Any = real
        for part in _PLACES.get(name, (name,)):
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            missing += [] if name in excused else [name]
            continue
        for member, value in _members(protocol).items():
            if member in excused:
                continue
            if member not in place:
                missing.append(f"{name}.{member}")
            elif inspect.isfunction(value) and not _accepts(
                str(place[member]), list(inspect.signature(value).parameters)[1:]
            ):
                missing.append(f"{name}.{member}{inspect.signature(value)}")
    return missing


def find_missing_of_module(protocol: type, real: dict[str, Any], excused: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Names of a module's protocol that the module lacks; a function in it is a class that is called."""
    missing = []
    for name, value in _members(protocol).items():
        if name in excused or name == "__version__":
            continue
        if name not in real:
            missing.append(name)
        elif inspect.isfunction(value):
            made = real[name]["__init__"] if isinstance(real[name], dict) else real[name]
            if not _accepts(str(made), list(inspect.signature(value).parameters)[1:]):
                missing.append(f"{name}{inspect.signature(value)}")
    return missing


def _accepts(docstring: str, parameters: list[str]) -> bool:
    """Whether one of the signatures in a docstring has these parameters in this order."""
    for line in docstring.splitlines():
        match = re.search(r"\w+\((.*)\)", line)
        if match:
            known = [re.sub(r"^.*\s", "", part.split(":")[0].split("=")[0].strip()) for part in _split(match[1])]
            if [name for name in known if name != "self"][: len(parameters)] == parameters:
                return True
    return False


def _split(parameters: str) -> list[str]:
    """Parameters at commas outside brackets."""
    parts, depth = [""], 0
    for letter in parameters:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def test_every_runtime_name_exists_in_tensorrt_11_4(tensorrt: dict[str, Any]) -> None:
    assert not find_missing(_used(tensorrt_api), tensorrt, _RTX_ONLY)
    assert not find_missing_of_module(tensorrt_module.RuntimeModule, tensorrt)


def test_every_builder_name_exists_in_tensorrt_11_4(tensorrt: dict[str, Any]) -> None:
    assert not find_missing(_used(builder_api), tensorrt)
    assert not find_missing_of_module(builder_module.BuilderModule, tensorrt)


def test_every_runtime_name_exists_in_tensorrt_rtx(tensorrt_rtx: dict[str, Any]) -> None:
    assert not find_missing(_used(tensorrt_api), tensorrt_rtx)
    assert not find_missing_of_module(tensorrt_module.RuntimeModule, tensorrt_rtx)
    assert not find_missing_of_module(tensorrt_module.RtxModule, tensorrt_rtx)


def test_every_builder_name_exists_in_tensorrt_rtx(tensorrt_rtx: dict[str, Any]) -> None:
    assert not find_missing(_used(builder_api), tensorrt_rtx)
    assert not find_missing_of_module(builder_module.BuilderModule, tensorrt_rtx)


def test_every_cuda_name_exists_in_cuda_python(cuda_bindings: dict[str, Any]) -> None:
    assert not find_missing_of_module(cuda.CudaApi, cuda_bindings)
    named: dict[str, type] = {"cudaMemcpyKind": cuda.MemcpyKind, "cudaStreamCaptureMode": cuda.CaptureMode}
    assert not find_missing(named, cuda_bindings)


@pytest.mark.parametrize(
    "members",
    [
        {"set_tensor_adress": lambda self, name, memory: None},
        {"set_input_shape": lambda self, tensor_name, shape: None},
        {"execute_async_v3": lambda self, stream_handle, profile: None},
        {"set_device_memory": lambda self, size, memory: None},
    ],
    ids=["misspelt method", "misspelt parameter", "extra parameter", "swapped parameters"],
)
def test_a_wrong_name_is_found(tensorrt: dict[str, Any], members: dict[str, Any]) -> None:
    wrong = type("IExecutionContext", (Protocol,), {"__module__": __name__, **members})
    assert len(find_missing({"IExecutionContext": wrong}, tensorrt)) == 1


def test_bases_of_our_own_classes_have_the_methods_that_are_overridden(
    tensorrt: dict[str, Any], tensorrt_rtx: dict[str, Any]
) -> None:
    for real in (tensorrt, tensorrt_rtx):
        assert {"phase_start", "step_complete", "phase_finish"} <= real["IProgressMonitor"].keys()
        recorder = {"report_error", "num_errors", "get_error_code", "get_error_desc", "has_overflowed", "clear"}
        assert recorder <= real["IErrorRecorder"].keys()
        assert _accepts(real["ILogger"]["log"], ["severity", "msg"])
        assert _accepts(real["IProgressMonitor"]["phase_start"], ["phase_name", "parent_phase", "num_steps"])


def test_nothing_of_tensorrt_is_used_that_no_protocol_names() -> None:
    """The module parameter is only read through names of the protocols: `trt.X`, wherever it is written."""
    root = Path(__file__).parents[2]
    used = set()
    for folder in ("runtime/alterbute/backends", "export/alterbute_export/engine"):
        for path in (root / folder).rglob("*.py"):
            used |= set(re.findall(r"\btrt\.(\w+)", path.read_text()))
    named = {*_members(tensorrt_module.RuntimeModule), *_members(builder_module.BuilderModule), "__version__"}
    assert used
    assert used <= named
