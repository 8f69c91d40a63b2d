"""Promises of the probes of the NVIDIA driver: they describe what is there, and never raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alterbute.backends.cuda.driver import Driver, Gpu, probe_driver, probe_driver_version, probe_gpus, this_platform

H200 = Gpu(name="NVIDIA H200", capability="9.0", memory=141 << 30)


class _Libcuda:
    """`libcuda.so.1` of a machine with one GPU; `fails` names the call that returns `status`."""

    def __init__(self, fails: str = "", status: int = 999) -> None:
        self._fails, self._status = fails, status

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments: self._status if name == self._fails else self._answer(name, arguments)

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name == "cuDriverGetVersion":
            arguments[0]._obj.value = 13010
        elif name == "cuDeviceGetCount":
            arguments[0]._obj.value = 2
        elif name == "cuDeviceGetName":
            arguments[0].value = b"NVIDIA H200"
        elif name == "cuDeviceGetAttribute":
            arguments[0]._obj.value = {75: 9, 76: 0}[arguments[1]]
        elif name == "cuDeviceTotalMem_v2":
            arguments[0]._obj.value = 141 << 30
        elif name == "nvmlSystemGetDriverVersion":
            arguments[0].value = b"580.65.06"
        return 0


def test_the_driver_tells_gpu_capability_and_cuda() -> None:
    assert probe_driver(load=lambda name: _Libcuda()) == Driver(cuda="13.1", gpu=H200, reason="")


def test_every_gpu_and_the_drivers_version_are_listed() -> None:
    assert probe_gpus(lambda name: _Libcuda()) == (H200, H200)
    assert probe_driver_version(lambda name: _Libcuda()) == "580.65.06"


@pytest.mark.parametrize("call", ["nvmlInit_v2", "nvmlSystemGetDriverVersion"])
def test_a_driver_version_that_cannot_be_read_is_none(call: str) -> None:
    assert probe_driver_version(lambda name: _Libcuda(call)) is None
    assert probe_driver_version(lambda name: object()) is None


@pytest.mark.parametrize(
    "call", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2"]
)
def test_a_driver_that_fails_is_a_reason_and_no_exception(call: str) -> None:
    found = probe_driver(load=lambda name: _Libcuda(call))
    assert found.gpu is None
    assert "999" in found.reason
    assert found.is_broken and found.expects_gpu


@pytest.mark.parametrize("status", [34, 100])
def test_a_driver_library_on_a_machine_without_gpu_is_no_fault(status: int) -> None:
    found = probe_driver(load=lambda name: _Libcuda("cuInit", status))
    assert str(status) in found.reason
    assert not found.expects_gpu
    assert probe_gpus(lambda name: _Libcuda("cuInit", status)) == ()


def test_no_driver_is_a_reason_and_no_exception() -> None:
    def load(name: str) -> Any:
        raise OSError(name)

    found = probe_driver(load=load)
    assert "no NVIDIA driver" in found.reason
    assert not found.expects_gpu
    assert probe_gpus(load) == ()
    assert probe_driver_version(load) is None


def test_the_platform_is_written_as_the_manifest_writes_it() -> None:
    assert this_platform().split("_")[0] in {"linux", "windows", "darwin"}
