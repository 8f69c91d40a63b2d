"""Several threads and several editors of one process on the CUDA provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda import programs
from tests.cuda.harness import StandIn


def test_four_threads_capture_no_more_than_one(standin: StandIn, cuda_bundle: Path) -> None:
    one, four = (standin.run(programs.edit_from_threads, cuda_bundle, count).check().log for count in (1, 4))
    assert 0 < len(four.captures()) <= len(one.captures())
    assert len(four.captures_by_thread()) == 1
    assert four.illegal() == []


def test_threads_that_edit_at_once_all_succeed_and_capture_nothing(standin: StandIn, cuda_bundle: Path) -> None:
    run = standin.run(programs.edit_from_threads_at_once, cuda_bundle, 4).check()
    assert [outcome for outcome in run.result if outcome["error"]] == []
    assert len(run.result) == 4
    assert run.log.between("warm").captures() == []


def test_editors_that_open_in_two_threads_do_not_meet_in_a_capture(standin: StandIn, cuda_bundle: Path) -> None:
    run = standin.run(programs.open_and_edit_in_two_threads, cuda_bundle, 5).check()
    assert run.result == []
    assert run.log.illegal() == []
    assert len(run.log.captures()) > 0
    assert {name: number for name, number in run.log.left().items() if number} == {}


def test_the_second_gpu_alone_is_used_where_it_is_chosen(standin: StandIn, cuda_bundle: Path) -> None:
    log = standin.run(programs.edit_on_second_device, cuda_bundle, devices=2).check().log
    assert log.failed() == []
    calls = [call for call in log.between("opened", "closed").calls if call.name != "MARK"]
    assert len(calls) > 100
    assert {call.device for call in calls} == {1}


@pytest.mark.slow
def test_two_hundred_openings_in_two_threads_have_no_failure(standin: StandIn, cuda_bundle: Path) -> None:
    run = standin.run(programs.open_and_edit_in_two_threads, cuda_bundle, 100, timeout_s=900).check()
    assert run.result == []
    assert run.log.illegal() == []
