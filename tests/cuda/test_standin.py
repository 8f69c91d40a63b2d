"""The stand-in itself: it keeps CUDA's rules, so that a test over it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda import rules
from tests.cuda.build import find_missing
from tests.cuda.harness import StandIn


@pytest.mark.parametrize(
    ("mode", "same_thread", "expected"),
    [
        ("global", True, (900, 901)),
        ("global", False, (900, 901)),
        ("thread", True, (900, 901)),
        ("thread", False, (0, 0)),
        ("relaxed", True, (0, 0)),
    ],
)
def test_a_capture_forbids_allocations_to_the_threads_that_its_mode_names(
    standin: StandIn, mode: str, same_thread: bool, expected: tuple[int, int]
) -> None:
    run = standin.run(rules.allocate_in_capture, mode, same_thread).check()
    assert tuple(run.result) == expected
    assert bool(run.log.illegal()) == bool(expected[0])


def test_waiting_for_a_captured_stream_breaks_the_capture(standin: StandIn) -> None:
    assert standin.run(rules.wait_in_capture).check().result == [900, 901]


def test_copies_of_a_graph_are_done_at_its_launches_and_not_at_its_capture(standin: StandIn) -> None:
    assert standin.run(rules.replay_copy).check().result == [0, 7, 9]


def test_a_graph_that_reaches_freed_memory_loses_the_device(standin: StandIn) -> None:
    assert standin.run(rules.replay_after_free).check().result == [700, 700]


def test_memory_runs_out_at_the_size_of_the_gpu_and_comes_back_when_freed(standin: StandIn) -> None:
    run = standin.run(rules.fill_memory, memory=64 << 20, occupied=16 << 20).check()
    assert run.result == {"free": 48 << 20, "first": 0, "second": 2, "third": 0}


def test_what_is_left_at_the_end_is_counted(standin: StandIn) -> None:
    left = standin.run(rules.leave_things).check().log.left()
    assert left == {
        "allocations": 1, "bytes": 100, "pinned": 1, "streams": 1, "events": 1, "graphs": 0, "executables": 0
    }  # fmt: skip


def test_each_thread_has_its_device_and_a_stream_takes_launches_of_its_own_device_only(standin: StandIn) -> None:
    run = standin.run(rules.use_two_devices, devices=2).check()
    assert run.result == {"count": 2, "main": 1, "other": 0, "graph": 400, "unknown": 101}


def test_faults_come_at_the_named_call_and_a_fatal_one_stays(standin: StandIn) -> None:
    run = standin.run(rules.allocate_four_times, faults="cudaMalloc:2=2,cudaMalloc:4=700").check()
    assert run.result == [0, 2, 0, 700, 700]


def test_an_armed_fault_counts_from_then_on_and_a_graphs_fault_meets_the_next_call(standin: StandIn) -> None:
    assert standin.run(rules.launch_with_armed_fault).check().result == [0, 0, 700]


@pytest.mark.parametrize(("setting", "expected"), [({"driver": 12080}, 35), ({"devices": 0}, 100)])
def test_an_old_driver_and_a_machine_without_gpu_are_told_by_every_call(
    standin: StandIn, setting: dict[str, int], expected: int
) -> None:
    assert standin.run(rules.count_devices, **setting).check().result == expected


def test_the_shim_has_every_name_that_the_product_uses(standin: StandIn) -> None:
    assert standin.run(rules.missing_in_shim).check().result == []


def test_a_function_that_the_provider_needs_and_no_library_has_is_named(standin: StandIn, tmp_path: Path) -> None:
    folder = standin.some_libraries(tmp_path / "libraries")
    assert find_missing(folder, standin.wheels.provider) == []
    (folder / "libcublasLt.so.13").unlink()
    (folder / "libcublasLt.so.13").symlink_to(standin.libraries / "libcurand.so.10")
    assert "cublasLtMatmul" in find_missing(folder, standin.wheels.provider)
