"""Steps on ONNX Runtime's CUDA provider: where nodes run, what is captured and when, and what a step costs the host."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from alterbute.bundle import open_bundle

from tests.cuda import placement, programs
from tests.cuda.call_log import CallLog
from tests.cuda.harness import StandIn, StandInRun
from tests.cuda.step_launches import count_step_launches
from tests.support.half_bundle import BUCKETS

DIRECTIONS = 2


@pytest.fixture(scope="module")
def edits(standin: StandIn, cuda_bundle: Path) -> StandInRun:
    """A warm-up and two edits."""
    return standin.run(programs.warm_up_and_edit, cuda_bundle).check()


def launches(log: CallLog) -> list[int]:
    """Places of the graph launches in a log."""
    return [place for place, call in enumerate(log.calls) if call.name == "cudaGraphLaunch"]


def test_no_node_is_copied_between_gpu_and_cpu_and_only_shapes_are_computed_on_the_cpu(
    standin: StandIn, cuda_bundle: Path
) -> None:
    placed = standin.run(placement.place_nodes, cuda_bundle).check().result
    step = next(
        variant
        for variant in open_bundle(cuda_bundle).manifest.graphs["step"].variants
        if variant.backend == programs.BACKEND and variant.prologue
    )
    assert {step.file, step.prologue} < placed.keys()
    assert {name: nodes["copies"] for name, nodes in placed.items() if nodes["copies"]} == {}
    assert {name: nodes["cpu"] for name, nodes in placed.items() if nodes["cpu"]} == {}
    assert [placed[file]["shapes"] for file in (step.file, step.prologue)] == [0, 0]
    assert placed[step.file]["gpu"] > 100


def test_every_bucket_is_captured_in_both_directions_at_warm_up_and_none_in_an_edit(edits: StandInRun) -> None:
    warm_up = edits.log.between("opened", "warm")
    # The lane of two slots needs its full launch of six rows, too.
    assert len(warm_up.captures()) == DIRECTIONS * (len(BUCKETS) + 1)
    assert len(edits.log.captures()) == len(warm_up.captures())


def test_no_call_is_refused_and_none_fails(edits: StandInRun) -> None:
    assert edits.log.illegal() == []
    assert edits.log.failed() == []


def test_one_thread_makes_every_call_of_the_edits(edits: StandInRun) -> None:
    log = edits.log.between("opened", "second edit")
    assert len({call.thread for call in log.calls if call.name != "MARK"}) == 1


@pytest.mark.parametrize(("start", "end"), [("warm", "first edit"), ("first edit", "second edit")])
def test_a_step_is_one_launch_and_its_uploads_with_no_wait_before_the_last(
    edits: StandInRun, start: str, end: str
) -> None:
    log = edits.log.between(start, end)
    places = launches(log)
    assert len(places) == programs.STEPS
    assert CallLog(log.calls[places[0] : places[-1]]).waits() == []
    between = [call for first, last in pairwise(places) for call in log.calls[first + 1 : last]]
    uploads = [call for call in between if call.is_upload]
    assert uploads
    assert all("from=pinned" in call.arguments for call in uploads)
    rest = {call.name for call in between if call not in uploads}
    if start == "warm":
        assert rest <= {"cudaEventRecord", "cudaEventCreateWithFlags"}
    # Another number of rows needs the prologue again, without a wait and without memory.
    assert not rest & {"cudaMalloc", "cudaHostAlloc", "cudaMallocHost"}


def test_launches_of_an_edit_are_those_that_the_warm_up_captured(edits: StandInRun) -> None:
    captured = {str(call.capture) for call in edits.log.between("opened", "warm").captures()}
    launched = {call.value["of"] for call in edits.log.between("warm").named("cudaGraphLaunch")}
    assert launched
    assert launched <= captured


def test_nothing_is_left_after_close(edits: StandInRun) -> None:
    assert set(edits.result.values()) == {0}, edits.result


@pytest.mark.parametrize(("slots", "rows"), [(1, 1), (1, 3), (4, 8)])
def test_a_captured_step_has_its_kernels_by_kind(standin: StandIn, cuda_bundle: Path, slots: int, rows: int) -> None:
    step = count_step_launches(standin, cuda_bundle, slots, rows)
    assert step.convolutions > 0
    assert step.products > 0
    assert step.attention > 0
    assert step.total == sum(step.names.values())
    assert any("GroupNorm" in name for name in step.names)
