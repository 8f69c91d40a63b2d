"""Promises of the choice: the order, the reasons, and the driver before everything else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alterbute.backends import choose_backend, onnxruntime_cuda, opener
from alterbute.backends.cuda import libraries
from alterbute.backends.cuda import runtime as cuda_module
from alterbute.backends.cuda.driver import Driver, Gpu
from alterbute.backends.engine_fit import Machine, check_engine, choose_engines
from alterbute.backends.tensorrt import module as tensorrt_module
from alterbute.bundle import Bundle, open_bundle
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError, DeviceError, EngineError, EngineMismatchError, InputError

from tests.backends.conftest import Rig
from tests.support.engines import add_engines, write_engines

H200 = Gpu(name="NVIDIA H200", capability="9.0", memory=141 << 30)
DRIVER = Driver(cuda="13.0", gpu=H200, reason="")
MACHINE = Machine(product="tensorrt", version="11.4.0.106", platform="linux_x86_64", driver=DRIVER)


@pytest.fixture
def on_h200(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with an H200, TensorRT 11.4 and CUDA, all stand-ins; what is asked of it, in order."""
    asked: list[str] = []

    def note(name: str, value: Any) -> Callable[..., Any]:
        def answer(*arguments: Any, **options: Any) -> Any:
            asked.append(name)
            return value

        return answer

    monkeypatch.setattr(opener, "probe_driver", note("driver", DRIVER))
    monkeypatch.setattr(opener, "this_platform", lambda: "linux_x86_64")
    monkeypatch.setattr(tensorrt_module, "load_module", note("library", rig.trt))
    monkeypatch.setattr(cuda_module, "load_cuda", note("cuda", rig.cuda))
    return asked


def test_the_driver_is_asked_before_any_engine_library_is_imported(rig: Rig, on_h200: list[str]) -> None:
    choose_backend("tensorrt", rig.bundle, allow_unsigned=True).backend.close()
    assert on_h200 == ["driver", "library", "cuda"]


def test_auto_takes_tensorrt_where_its_engines_fit(rig: Rig, on_h200: list[str]) -> None:
    chosen = choose_backend("auto", rig.bundle, allow_unsigned=True)
    assert (chosen.name, chosen.device, chosen.skipped) == ("tensorrt", "NVIDIA H200", ())
    chosen.backend.close()


def test_auto_without_a_gpu_ends_at_the_cpu_and_says_why_loudly_when_engines_were_shipped(
    engine_bundle: Bundle, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        opener, "probe_driver", lambda device: Driver(cuda="0.0", gpu=None, reason="there is no NVIDIA driver")
    )
    chosen = choose_backend("auto", engine_bundle, threads=1, allow_unsigned=True)
    chosen.backend.close()
    assert chosen.name == "onnxruntime"
    assert [name for name, _ in chosen.skipped] == ["tensorrt", "tensorrt_rtx", "onnxruntime-cuda"]
    reasons = dict(chosen.skipped)
    assert "there is no NVIDIA driver" in reasons["tensorrt"]
    assert "no engines of tensorrt_rtx" in reasons["tensorrt_rtx"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "tensorrt skipped" in caplog.text
    caplog.clear()
    choose_backend("auto", open_bundle(tiny_bundle), threads=1).backend.close()
    assert not caplog.records


UNUSABLE = (
    EngineError("libcudnn.so.9 does not load (no such file)", "the libraries of CUDA 13", "run `pip install X`"),
    EngineError("onnxruntime-gpu is built for CUDA 12.8, and cuda-bindings is 13.5", "CUDA 13", "run `pip install X`"),
    EngineError("the graph 'step' runs on CPUExecutionProvider", "CUDAExecutionProvider", "run `alterbute doctor`"),
    DeviceError("cudaMalloc found no memory on the GPU (cudaErrorMemoryAllocation)", "free memory", "free the GPU"),
)


class Host:
    """The backend of the image graphs; `open` counts those that are not closed."""

    open = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        Host.open += 1

    def close(self) -> None:
        Host.open -= 1


@pytest.fixture(params=UNUSABLE, ids=["missing", "version", "on_the_cpu", "full"])
def unusable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AlterbuteError:
    """A machine with a GPU on which ONNX Runtime's CUDA backend cannot be opened, and the error that says so."""
    fault: AlterbuteError = request.param

    def fail(*arguments: Any, **options: Any) -> Any:
        raise fault

    monkeypatch.setattr(opener, "probe_driver", lambda device: DRIVER)
    monkeypatch.setattr(cuda_module, "load_cuda", lambda extra: object())
    if "does not load" in fault.seen or "built for" in fault.seen:
        monkeypatch.setattr(libraries, "import_cuda_provider", fail)
    else:
        monkeypatch.setattr(libraries, "import_cuda_provider", lambda driver: object())
        monkeypatch.setattr(onnxruntime_cuda, "OnnxRuntimeCudaBackend", fail)
    return fault


def test_auto_warns_in_one_line_when_a_gpu_is_there_and_cannot_be_used(
    unusable: AlterbuteError, tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    chosen = choose_backend("auto", open_bundle(tiny_bundle), threads=1)
    chosen.backend.close()
    assert (chosen.name, chosen.device) == ("onnxruntime", "cpu")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning == f"backend onnxruntime-cuda skipped, onnxruntime runs instead: {unusable}"
    assert "\n" not in warning
    assert chosen.warnings == (warning,)
    assert dict(chosen.skipped)["onnxruntime-cuda"] == str(unusable)


def test_a_backend_chosen_by_name_never_falls_back_and_leaves_nothing_open(
    unusable: AlterbuteError, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alterbute.backends import onnxruntime

    monkeypatch.setattr(onnxruntime, "OnnxRuntimeBackend", Host)
    with pytest.raises(type(unusable)) as caught:
        choose_backend("onnxruntime-cuda", open_bundle(tiny_bundle))
    assert caught.value is unusable
    assert Host.open == 0


@pytest.mark.parametrize(("is_broken", "warnings"), [(True, 1), (False, 0)])
def test_auto_warns_of_a_driver_that_does_not_work_but_not_of_a_machine_without_gpu(
    is_broken: bool, warnings: int, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver(cuda="0.0", gpu=None, reason="the driver gives 803", is_broken=is_broken)
    monkeypatch.setattr(opener, "probe_driver", lambda device: driver)
    chosen = choose_backend("auto", open_bundle(tiny_bundle), threads=1)
    chosen.backend.close()
    assert len(chosen.warnings) == len(caplog.records) == warnings
    assert all("the driver gives 803" in line for line in chosen.warnings)


def test_no_warning_when_the_bundle_has_no_engines_and_cuda_runs_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opener, "probe_driver", lambda device: DRIVER)
    monkeypatch.setattr(cuda_module, "load_cuda", lambda extra: object())
    monkeypatch.setattr(libraries, "import_cuda_provider", lambda driver: object())
    monkeypatch.setattr(onnxruntime_cuda, "OnnxRuntimeCudaBackend", Host)
    chosen = choose_backend("auto", open_bundle(tiny_bundle))
    chosen.backend.close()
    assert (chosen.name, chosen.device) == ("onnxruntime-cuda", "NVIDIA H200")
    assert [name for name, _ in chosen.skipped] == ["tensorrt", "tensorrt_rtx"]
    assert not chosen.warnings
    assert not caplog.records


@pytest.mark.parametrize(("product", "extra"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "rtx")])
def test_missing_bindings_name_the_extra_of_the_backend(
    product: str, extra: str, rig: Rig, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def load(extra: str) -> Any:
        asked.append(extra)
        raise EngineError("cuda-python is not installed", "cuda-bindings", f"alterbute[{extra}]")

    monkeypatch.setattr(opener, "probe_driver", lambda device: DRIVER)
    monkeypatch.setattr(opener, "this_platform", lambda: "linux_x86_64")
    monkeypatch.setattr(tensorrt_module, "load_module", lambda name: rig.trt)
    monkeypatch.setattr(cuda_module, "load_cuda", load)
    bundle = write_engines(tiny_bundle, tmp_path / "bundle", product=product, version=rig.trt.__version__)
    with pytest.raises(EngineError, match=rf"alterbute\[{extra}\]"):
        choose_backend(product, bundle, allow_unsigned=True)
    assert asked == [extra]


def test_the_editor_tells_what_it_took(tiny_bundle: Path) -> None:
    with Editor.open(tiny_bundle, threads=1) as editor:
        assert editor.choice is not None
        assert editor.choice.name in ("onnxruntime", "onnxruntime-cuda")
        assert len(editor.choice.skipped) >= 2


def test_auto_goes_on_when_an_engine_does_not_load(
    rig: Rig, on_h200: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    rig.trt.broken.add("deserialize step")
    chosen = choose_backend("auto", rig.bundle, threads=1, allow_unsigned=True)
    chosen.backend.close()
    assert chosen.name == "onnxruntime"
    assert "of another version" in caplog.text


def test_auto_does_not_go_on_when_the_gpu_is_lost(rig: Rig, on_h200: list[str]) -> None:
    rig.cuda.fail("cudaMalloc", 700)
    with pytest.raises(DeviceError) as caught:
        choose_backend("auto", rig.bundle, threads=1, allow_unsigned=True)
    assert caught.value.is_fatal


def test_unsigned_engines_need_an_explicit_word(rig: Rig, on_h200: list[str]) -> None:
    with pytest.raises(EngineError, match=r"not signed by a trusted key.*--allow-unsigned"):
        choose_backend("tensorrt", rig.bundle)
    assert not on_h200
    assert not rig.trt.seen_bytes


def test_an_unknown_backend_is_named_with_the_known_ones(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="tensorrt_rtx, onnxruntime-cuda"):
        choose_backend("directml", open_bundle(tiny_bundle))


@pytest.mark.parametrize(
    ("changes", "machine", "words"),
    [
        ({"version": "11.3.0.99"}, {}, r"version is tensorrt 11.4.0.106.*expected tensorrt 11.3.0.99"),
        ({"platform": "windows_amd64"}, {}, "platform is linux_x86_64.*expected windows_amd64"),
        (
            {"capabilities": ("8.9",), "gpu": "NVIDIA L4"},
            {},
            "H200 of compute capability 9.0.*expected NVIDIA L4 of compute capability 8.9",
        ),
        ({"fit": "same_gpu", "gpu": "NVIDIA H100"}, {}, "this machine has NVIDIA H200.*expected NVIDIA H100"),
        ({"cuda": "13.2", "driver": "590.1"}, {}, "driver runs CUDA 13.0.*expected CUDA 13.2, from driver 590.1"),
        (
            {"fit": "ampere_plus"},
            {"driver": Driver(cuda="13.0", gpu=Gpu(name="T4", capability="7.5", memory=1), reason="")},
            "T4",
        ),
        ({}, {"driver": Driver(cuda="0.0", gpu=None, reason="there is no NVIDIA driver")}, "there is no NVIDIA driver"),
        ({"onnx": "0" * 64}, {}, "'prompt.onnx' has SHA-256.*expected 000000000000"),
        ({"weights": {"weights.bin": "1" * 64}}, {}, "'weights.bin' has SHA-256.*expected 111111111111"),
    ],
)
def test_a_foreign_or_stale_engine_is_refused_with_both_sides_and_the_rebuild_command(
    tiny_bundle: Path, tmp_path: Path, changes: dict[str, Any], machine: dict[str, Any], words: str
) -> None:
    bundle = write_engines(tiny_bundle, tmp_path / "bundle", **changes)
    here = Machine(
        **{"product": "tensorrt", "version": "11.4.0.106", "platform": "linux_x86_64", "driver": DRIVER, **machine}
    )
    with pytest.raises(EngineMismatchError, match=words) as caught:
        choose_engines(bundle, here, allow_unsigned=True)
    assert f"alterbute-export engine {bundle.path} --recipe engines/recipes/h200_fp16.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "gpu"),
    [
        ({"fit": "same_gpu"}, H200),
        ({"fit": "same_compute_capability"}, Gpu(name="NVIDIA H100", capability="9.0", memory=1)),
        ({"fit": "ampere_plus", "capabilities": ("8.0",)}, Gpu(name="NVIDIA A100", capability="8.0", memory=1)),
        ({"fit": "ampere_plus", "capabilities": ("8.0",)}, Gpu(name="RTX 5090", capability="12.0", memory=1)),
        ({"fit": "portable", "capabilities": ("8.6", "12.0")}, Gpu(name="RTX 5090", capability="12.0", memory=1)),
    ],
)
def test_an_engine_is_taken_where_it_fits(tiny_bundle: Path, tmp_path: Path, changes: dict[str, Any], gpu: Gpu) -> None:
    bundle = write_engines(tiny_bundle, tmp_path / "bundle", **changes)
    machine = Machine(
        product="tensorrt",
        version="11.4.0.106",
        platform="linux_x86_64",
        driver=Driver(cuda="13.1", gpu=gpu, reason=""),
    )
    for engine in bundle.manifest.engines:
        check_engine(bundle, engine, machine)


def test_the_first_recipe_that_fits_is_taken(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = write_engines(tiny_bundle, tmp_path / "bundle", recipe="l4_fp16", capabilities=("8.9",), gpu="NVIDIA L4")
    add_engines(bundle.path, recipe="h200_fp16")
    chosen = choose_engines(open_bundle(bundle.path), MACHINE, allow_unsigned=True)
    assert {engine.recipe for engine in chosen.values()} == {"h200_fp16"}
