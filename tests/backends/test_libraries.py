"""Promises of the check of CUDA's libraries: what is missing or of another version is one typed line, before any session."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from alterbute.backends.cuda.driver import Driver, Gpu
from alterbute.backends.cuda.libraries import import_cuda_provider, load_libraries
from alterbute.backends.cuda.packages import find_onnxruntime
from alterbute.backends.cuda.runtime import load_cuda
from alterbute.errors import EngineError

H200 = Gpu(name="NVIDIA H200", capability="9.0", memory=141 << 30)
DRIVER = Driver(cuda="13.0", gpu=H200, reason="")
MODULE = """
__version__ = "{version}"
cuda_version = {cuda!r}
severity = 2
def get_available_providers(): return {providers!r}
def preload_dlls(): print("Failed to load something")
def set_default_logger_severity(level): global severity; severity = level
"""
Install = Callable[..., None]


FILES = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9")
PROVIDER = "libonnxruntime_providers_cuda.so"
ABSENT = "cannot open shared object file: No such file or directory"


class Loader:
    """Opens the shared libraries of CUDA 13 except `missing`, and `others`; `opened` lists the names in order."""

    def __init__(self, missing: str = "", others: tuple[str, ...] = ()) -> None:
        self.files = {*FILES, PROVIDER, *others} - {missing}
        self.opened: list[str] = []

    def __call__(self, name: str) -> object:
        file = Path(name).name
        if file not in self.files:
            raise OSError(f"{file}: {ABSENT}")
        self.opened.append(file)
        return object()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a made-up onnxruntime, and packages by name and version, before the environment's own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    assert onnxruntime is sys.modules.pop("onnxruntime")

    def make(
        cuda: str | None = "13.0",
        providers: tuple[str, ...] = ("CUDA", "CPU"),
        built: str = "1.31.1",
        **packages: str,
    ) -> None:
        (tmp_path / "onnxruntime").mkdir()
        names = [f"{name}ExecutionProvider" for name in providers]
        text = MODULE.format(version=built, cuda=cuda, providers=names)
        (tmp_path / "onnxruntime" / "__init__.py").write_text(text)
        for name, version in ({"onnxruntime_gpu": "1.31.1", "cuda_bindings": "13.5.0"} | packages).items():
            folder = tmp_path / f"{name}-{version}.dist-info"
            folder.mkdir()
            package = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            (folder / "METADATA").write_text(package)
        importlib.invalidate_caches()

    yield make
    sys.modules["onnxruntime"] = onnxruntime


def refuse(load: Loader, driver: Driver = DRIVER) -> str:
    with pytest.raises(EngineError) as caught:
        import_cuda_provider(driver, load)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_library_is_loaded_before_the_provider_and_nothing_is_printed(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install()
    load = Loader()
    ort = import_cuda_provider(DRIVER, load)
    assert load.opened == [*FILES, PROVIDER]
    assert ort.severity == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("file", [*FILES, PROVIDER])
def test_a_missing_library_is_named_with_the_cure(install: Install, file: str) -> None:
    install()
    text = refuse(Loader(file))
    assert text.startswith(f"{file} does not load ({ABSENT}); expected ")
    assert "the libraries of CUDA 13 and cuDNN 9, which onnxruntime-gpu 1.31.1 is built for" in text
    assert "pip install --upgrade 'alterbute[cuda]'" in text
    assert "LD_LIBRARY_PATH" in text


def test_wheels_and_libraries_of_another_cuda_version_are_named(install: Install) -> None:
    install(nvidia_cudnn_cu12="9.10.2.21")
    text = refuse(Loader("libcublas.so.13", others=("libcublas.so.12",)))
    assert f"({ABSENT}), and nvidia-cudnn-cu12 9.10.2.21, libcublas.so.12 is of another version" in text


def test_a_build_for_cuda_12_asks_for_libraries_of_cuda_12(install: Install) -> None:
    install(cuda="12.8", cuda_bindings="12.9.0")
    text = refuse(Loader())
    assert text.startswith(f"libcudart.so.12 does not load ({ABSENT}), and libcudart.so.13 is of another version")
    assert "the libraries of CUDA 12" in text


@pytest.mark.parametrize(
    ("cuda", "bindings", "driver", "words"),
    [
        ("12.8", "13.5.0", "13.0", ("is built for CUDA 12.8, and cuda-bindings is 13.5.0", "both for CUDA 13")),
        ("13.0", "12.9.4", "13.0", ("is built for CUDA 13.0, and cuda-bindings is 12.9.4", "both for CUDA 13")),
        ("13.0", "13.5.0", "12.8", ("supports CUDA 12.8", "is built for CUDA 13.0", "update the NVIDIA driver")),
    ],
)
def test_versions_that_do_not_fit_are_refused_before_any_library_is_loaded(
    install: Install, cuda: str, bindings: str, driver: str, words: tuple[str, ...]
) -> None:
    install(cuda=cuda, cuda_bindings=bindings)
    load = Loader()
    text = refuse(load, Driver(cuda=driver, gpu=H200, reason=""))
    assert all(word in text for word in words), text
    assert not load.opened


def test_an_older_onnxruntime_is_refused(install: Install) -> None:
    install(built="1.30.0")
    load = Loader()
    text = refuse(load)
    assert text.startswith("onnxruntime-gpu is 1.30.0; expected 1.31 or newer")
    assert not load.opened


def test_a_driver_newer_than_the_build_is_accepted(install: Install) -> None:
    install(cuda="12.8", cuda_bindings="12.9.0")
    load = Loader(others=tuple(file.replace(".13", ".12") for file in FILES))
    import_cuda_provider(Driver(cuda="13.1", gpu=H200, reason=""), load)


def test_a_build_without_cuda_is_named(install: Install) -> None:
    install(cuda=None, providers=("Azure", "CPU"))
    text = refuse(Loader())
    assert "onnxruntime 1.31.1 has AzureExecutionProvider, CPUExecutionProvider" in text
    assert "pip uninstall -y onnxruntime`, then `pip install 'alterbute[cuda]'" in text


def test_two_packages_in_one_folder_are_an_error_when_the_cpu_build_has_overwritten_the_other(install: Install) -> None:
    install(cuda=None, providers=("CPU",), onnxruntime="1.32.0")
    assert find_onnxruntime() == {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    text = refuse(Loader())
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are both installed" in text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in text


def test_two_packages_in_one_folder_are_a_warning_while_cuda_is_there(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install(onnxruntime="1.32.0")
    import_cuda_provider(DRIVER, Loader())
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "overwrite each other's files" in record.getMessage()


def test_a_package_in_another_folder_is_no_conflict(install: Install) -> None:
    """The environment's own onnxruntime lies elsewhere: it overwrites nothing."""
    install()
    assert list(find_onnxruntime()) == ["onnxruntime-gpu"]


def test_no_onnxruntime_at_all_is_an_error_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install --upgrade 'alterbute[cuda]'" in refuse(Loader())


def test_an_onnxruntime_that_does_not_load_is_an_error(install: Install, tmp_path: Path) -> None:
    install()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError('libonnxruntime.so.1: file too short')")
    assert "onnxruntime does not load (libonnxruntime.so.1: file too short)" in refuse(Loader())


def test_versions_are_those_that_the_libraries_tell() -> None:
    class Library:
        """One object with the functions of all libraries."""

        class cudnnGetVersion:
            restype: Any = None

            def __new__(cls) -> Any:
                return 92801

        def cudaRuntimeGetVersion(self, number: Any) -> int:
            number._obj.value = 13050
            return 0

        def cublasGetProperty(self, kind: int, number: Any) -> int:
            number._obj.value = (13, 10, 2)[kind]
            return 0

    found = {library.name: library.version for library in load_libraries(onnxruntime, lambda name: Library())}
    assert found == {
        "CUDA runtime": "13.5",
        "cuBLASLt": None,
        "cuBLAS": "13.10.2",
        "cuRAND": None,
        "cuDNN": "9.28.1",
    }


@pytest.mark.parametrize("extra", ["cuda", "tensorrt", "rtx"])
def test_missing_bindings_name_the_extra_of_the_caller(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=rf"cuda-python is not installed.*alterbute\[{extra}\]"):
        load_cuda(extra)


def test_bindings_that_do_not_load_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise RuntimeError("libcuda is of another architecture")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(EngineError, match=r"does not load .libcuda is of another architecture.*cuda-bindings"):
        load_cuda("cuda")
