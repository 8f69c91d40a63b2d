"""The C++ library on ONNX Runtime's real CUDA provider, over the stand-in of CUDA: what is called, in which order, on which thread
and stream. No kernel computes anything there, so pictures are not compared (test_device.py compares them)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cpp.build import run
from tests.cpp.cuda_bundle import add_cuda_variant
from tests.cpp.driver import Driver, Refused
from tests.cpp.test_edits import draw_mask, draw_photo
from tests.cuda.call_log import CallLog, read_log
from tests.cuda.harness import StandIn

BUCKETS = ((1, 1), (1, 2), (4, 8), (4, 12))
STEPS = 4
WATCHED = ("cudaMemcpyAsync", "cudaEventRecord", "cudaGraphLaunch", "cudaMalloc", "cudaHostAlloc")
PHOTO, MASK = draw_photo(96, 80), draw_mask(96, 80, 0)
EDIT: dict[str, Any] = {"prompt": "color: red", "seed": 4, "steps": STEPS}


class Rig:
    """A driver on the stand-in."""

    def __init__(self, program: Path, standin: StandIn, log: Path, **settings: Any) -> None:
        self._log = log
        self._code: int | None = None
        self.driver = Driver(program, environment(standin, log, **settings))

    def open(self, bundle: Path, **options: Any) -> None:
        self.driver.ask("open", path=str(bundle), device="cuda", **options)

    def calls(self, action: Callable[[], object]) -> CallLog:
        """What an action called."""
        before = len(read_log(self._log).calls)
        action()
        return CallLog(read_log(self._log).calls[before:])

    def edit(self, **options: Any) -> CallLog:
        return self.calls(lambda: self.driver.edit(PHOTO, MASK, **{**EDIT, **options}))

    def close(self) -> int:
        """The exit code of the driver."""
        if self._code is None:
            self._code = self.driver.close()
        return self._code


MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(standin: StandIn, built: Path, tmp_path: Path) -> Iterator[MakeRig]:
    rigs: list[Rig] = []

    def make(**settings: Any) -> Rig:
        rigs.append(Rig(built / "tests" / "driver", standin, tmp_path / f"log{len(rigs)}.txt", **settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        assert rig.close() == 0


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "prologue"])
def bundle(request: pytest.FixtureRequest, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda") / "bundle"
    return add_cuda_variant(demo, folder, BUCKETS, has_prologue=request.param)


def environment(standin: StandIn, log: Path, **settings: Any) -> dict[str, str]:
    library = next(standin.wheels.provider.parent.glob("libonnxruntime.so.*"))
    return {**standin.environment(log=log, **settings), "ALTERBUTE_ONNXRUNTIME": str(library)}


def place_of(log: CallLog, name: str) -> list[int]:
    return [at for at, call in enumerate(log.calls) if call.name == name]


def test_a_step_is_its_uploads_and_one_launch_with_no_wait_before_the_last(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    rig.open(bundle)
    rig.driver.ask("warm_up")
    rig.edit()
    log = rig.edit(steps=6)
    launches = place_of(log, "cudaGraphLaunch")
    assert len(launches) == 6
    for first, second in pairwise(launches):
        # timestep, solver and reinject
        between = [call.name for call in log.calls[first + 1 : second] if call.name in WATCHED]
        assert between == ["cudaMemcpyAsync"] * 3 + ["cudaEventRecord"]
    assert not CallLog(log.calls[: launches[-1]]).waits()
    assert log.waits()
    assert not log.named("cudaMalloc", "cudaHostAlloc")


def test_warm_up_captures_every_bucket_both_ways_and_nothing_does_later(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    rig.open(bundle)
    log = rig.calls(lambda: rig.driver.ask("warm_up"))
    # Buckets of several slots are launched with all four of them: (1,1), (1,2), (4,8), (4,12).
    assert len(log.captures()) == 2 * len(BUCKETS)
    assert not log.illegal()
    assert not rig.calls(lambda: rig.driver.ask("warm_up")).captures()
    # Also on another thread of the caller's.
    for options in ({"guidance": 1}, {"count": 4}, {"guidance": 3, "count": 3}, {"thread": True}):
        later = rig.edit(**options)
        assert not later.captures()
        assert not later.failed()
        assert later.count("cudaGraphLaunch") == STEPS


def test_the_exported_graph_made_for_cuda_is_captured_in_its_buckets(make_rig: MakeRig, cuda_bundle: Path) -> None:
    rig = make_rig()
    rig.open(cuda_bundle, slots=2)
    log = rig.calls(lambda: rig.driver.ask("warm_up"))
    # (1,1), (1,2) and (2,4) of the bundle, and (2,6) for a full lane.
    assert len(log.captures()) == 2 * 4
    assert not log.illegal()
    edit = rig.edit(count=2)
    assert edit.count("cudaGraphLaunch") == STEPS
    assert not edit.captures()
    assert not edit.failed()


def test_exact_has_one_launch_shape(make_rig: MakeRig, cuda_bundle: Path) -> None:
    rig = make_rig()
    rig.open(cuda_bundle, slots=2, exact=True)
    log = rig.calls(lambda: rig.driver.ask("warm_up"))
    assert len(log.captures()) == 2
    # Group normalizations of graphs made for CUDA add in an order that changes.
    assert not [call for call in log.calls if "GroupNorm" in call.arguments]
    assert not rig.edit(count=2).captures()


def test_one_thread_launches_whatever_thread_calls(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig()
    rig.open(demo)
    calls = [*rig.edit().calls, *rig.edit(thread=True).calls, *rig.edit(thread=True, count=2).calls]
    launching = {call.thread for call in calls if call.is_launch or call.name == "cudaGraphLaunch"}
    assert len(launching) == 1


def test_without_a_warm_up_each_shape_is_captured_once(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig()
    rig.open(demo)
    assert len(rig.edit().captures()) == 2
    assert not rig.edit().captures()
    assert len(rig.edit(count=4).captures()) == 2


def test_the_prologue_runs_when_the_rows_change_and_not_in_every_step(
    make_rig: MakeRig, demo: Path, tmp_path: Path
) -> None:
    products = []
    for has_prologue in (False, True):
        rig = make_rig()
        rig.open(add_cuda_variant(demo, tmp_path / str(has_prologue), BUCKETS, has_prologue=has_prologue))
        rig.driver.ask("warm_up")
        rig.edit()
        log = rig.edit(steps=6)
        launches = place_of(log, "cudaGraphLaunch")
        parts = (log.calls[: launches[0]], log.calls[launches[0] : launches[-1]])
        products.append([sum("gemm" in call.name.lower() for call in part) for part in parts])
    assert products == [[0, 0], [28, 0]]


def test_everything_is_on_the_callers_stream(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    calls = [*rig.calls(lambda: rig.open(bundle, makes_stream=True, load=True)).calls]
    calls += [*rig.calls(lambda: rig.driver.ask("warm_up")).calls, *rig.edit().calls]
    calls += rig.calls(lambda: rig.driver.ask("close")).calls
    # The caller makes one, number 1 of the log, and it is not destroyed.
    assert [call.name for call in calls if call.name.startswith(("cudaStreamCreate", "cudaStreamDestroy"))] == [
        "cudaStreamCreateWithFlags"
    ]
    assert {call.stream for call in calls if call.is_launch or call.name == "cudaGraphLaunch"} == {1}


def test_an_editor_gives_back_what_it_took(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    rig.open(bundle)
    rig.driver.ask("warm_up")
    rig.edit()
    left = rig.calls(lambda: [rig.driver.ask("close"), rig.close()]).left()
    assert {"allocations", "pinned", "streams", "events", "executables"} <= left.keys()
    assert set(left.values()) == {0}


@pytest.mark.parametrize("faults", ["graph:2=700", "kernel:900=719"])
def test_a_lost_gpu_is_fatal_for_every_later_call(make_rig: MakeRig, demo: Path, faults: str) -> None:
    rig = make_rig(faults=faults)
    rig.open(demo, load=True)
    for _ in range(2):
        with pytest.raises(Refused, match=r"the GPU is lost to this process.*restart the process") as refused:
            rig.edit()
        assert refused.value.kind == "fatal DeviceError"


def test_too_little_memory_is_told_as_such(make_rig: MakeRig, demo: Path) -> None:
    """From any allocation on: while it loads, when it allocates the state, and in a run."""
    for at in (1, 5, 20, 40):
        rig = make_rig(faults=f"allocation:{at}+=2")
        with pytest.raises(Refused, match="no memory on the GPU") as refused:
            rig.open(demo, load=True)
            rig.edit()
        assert refused.value.kind == "DeviceError"


def test_without_cudas_libraries_nothing_runs_on_the_cpu_instead(
    make_rig: MakeRig, standin: StandIn, demo: Path, tmp_path: Path
) -> None:
    rig = make_rig(libraries=standin.some_libraries(tmp_path / "some", without=["libcublasLt.so.13"]))
    with pytest.raises(Refused, match=r"no CUDA provider that can be loaded.*libcublasLt.*LD_LIBRARY_PATH"):
        rig.open(demo)


def test_a_gpu_that_is_not_there_is_told_when_the_editor_opens(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig()
    with pytest.raises(Refused, match="GPU 3 cannot be used") as refused:
        rig.driver.ask("open", path=str(demo), device="cuda:3")
    assert refused.value.kind == "DeviceError"


def test_an_old_driver_is_told_when_the_editor_opens(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig(driver=12000)
    with pytest.raises(Refused, match=r"GPU 0 cannot be used.*update the driver") as refused:
        rig.open(demo)
    assert refused.value.kind == "DeviceError"


def test_another_gpu_is_the_one_that_was_asked_for(make_rig: MakeRig, demo: Path) -> None:
    """The stand-in refuses a launch whose stream is of another GPU than the thread's."""
    rig = make_rig(devices=2)
    rig.driver.ask("open", path=str(demo), device="cuda:1")
    log = rig.edit()
    assert not log.failed()
    assert log.count("cudaGraphLaunch") == STEPS


def test_editors_of_one_process_do_not_disturb_each_others_captures(
    built: Path, standin: StandIn, demo: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    env = {**environment(standin, log), "ALTERBUTE_TEST_CUDA_BUNDLE": str(demo)}
    done = run([built / "tests" / "editors_test"], env=env, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    calls = read_log(log)
    # Two directions of the shape that is launched, of the editor that captures in its edits.
    assert len(calls.captures()) > 2
    assert not calls.illegal()
