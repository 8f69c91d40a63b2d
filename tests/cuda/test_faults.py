"""Errors of the GPU: memory that ends, and a device that is lost. Each is a `DeviceError` that tells whether the process must end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cuda import programs
from tests.cuda.harness import StandIn

# Calls that fail, or after which every call fails, in an edit.
LOSSES = ("graph:1=700", "graph:4=700", "kernel:1=700", "cudaMemcpyAsync:2=719", "cudaStreamSynchronize:1=700")


def is_lost(outcome: dict[str, Any]) -> bool:
    return outcome["error"] == "DeviceError" and outcome["is_fatal"] is True


@pytest.mark.parametrize(
    ("group", "moments"),
    [
        ("allocation", ["1", "2", "3", "8", "20", "40", "1+", "2+", "5+", "12+", "30+", "45+"]),
        ("pinned", ["1", "2", "30", "66", "1+", "3+", "67+"]),
    ],
)
def test_memory_that_ends_is_an_error_that_leaves_the_process_usable(
    standin: StandIn, cuda_bundle: Path, group: str, moments: list[str]
) -> None:
    run = standin.run(programs.run_out_of_memory, cuda_bundle, group, moments).check()
    outcomes = {moment: run.result[moment] for moment in moments}
    # ONNX Runtime asks again for less when one allocation fails: such an edit may succeed.
    wrong = {
        moment: outcome
        for moment, outcome in outcomes.items()
        if (outcome["error"], outcome["is_fatal"]) not in {("DeviceError", False), (None, None)}
    }
    assert wrong == {}
    assert outcomes["1+"]["error"] == "DeviceError"
    assert any("memory" in outcome["message"] for outcome in outcomes.values())
    assert run.result["none"]["error"] is None
    assert set(run.log.left().values()) == {0}


@pytest.mark.parametrize("fault", LOSSES)
def test_a_device_lost_in_an_edit_is_fatal_then_and_afterwards(standin: StandIn, cuda_bundle: Path, fault: str) -> None:
    result = standin.run(programs.lose_device_while_open, cuda_bundle, fault).check().result
    assert is_lost(result["first"]), result
    assert is_lost(result["second"]), result
    assert result["close"]["error"] is None, result


@pytest.mark.parametrize("fault", ["cudaMalloc:1=700", "cudaMalloc:10=700", "kernel:1=700", "kernel:200=700"])
def test_a_device_lost_while_an_editor_opens_is_fatal(standin: StandIn, cuda_bundle: Path, fault: str) -> None:
    result = standin.run(programs.lose_device_while_opening, cuda_bundle, fault).check().result
    assert is_lost(result["first"]), result
    assert is_lost(result["second"]), result


def test_a_gpu_that_is_too_small_is_an_error_at_the_opening(standin: StandIn, cuda_bundle: Path) -> None:
    run = standin.run(programs.lose_device_while_opening, cuda_bundle, "", memory=1 << 20).check()
    assert (run.result["first"]["error"], run.result["first"]["is_fatal"]) == ("DeviceError", False), run.result
    assert "memory" in run.result["first"]["message"]
