"""The C++ library on ONNX Runtime's real CUDA provider, over the stand-in of CUDA: what is called, in which order, on which thread
and stream. No kernel computes anything there, so pictures are not compared (test_device.py compares them)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cpp.build import run
from tests.cpp.cuda_bundle import add_cuda_variant
from tests.cpp.driver import Driver, Refused
from tests.cpp.standin_log import Call, open_standin, read_log
from tests.cpp.test_edits import draw_mask, draw_photo

BUCKETS = ((1, 1), (1, 2), (4, 8), (4, 12))
STREAM = 0x7000
PHOTO, MASK = draw_photo(96, 80), draw_mask(96, 80, 0)
EDIT = {"prompt": "color: red", "seed": 4, "steps": 4}


class Rig:
    """A driver on the stand-in."""

    def __init__(self, program: Path, log: Path, **environment: str) -> None:
        self._log = log
        self._code: int | None = None
        self.driver = Driver(program, {**open_standin(log), **environment})

    def open(self, bundle: Path, **options: Any) -> None:
        self.driver.ask("open", path=str(bundle), device="cuda", **options)

    def calls(self, action: Callable[[], object]) -> list[Call]:
        """What an action called."""
        before = len(read_log(self._log)) if self._log.exists() else 0
        action()
        return read_log(self._log)[before:]

    def edit(self, **options: Any) -> list[Call]:
        return self.calls(lambda: self.driver.edit(PHOTO, MASK, **{**EDIT, **options}))

    def close(self) -> int:
        """The exit code of the driver."""
        if self._code is None:
            self._code = self.driver.close()
        return self._code


MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(built: Path, tmp_path: Path) -> Iterator[MakeRig]:
    rigs: list[Rig] = []

    def make(**environment: str) -> Rig:
        rigs.append(Rig(built / "tests" / "driver", tmp_path / "log.txt", **environment))
        return rigs[-1]

    yield make
    for rig in rigs:
        assert rig.close() == 0


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "prologue"])
def bundle(request: pytest.FixtureRequest, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda") / "bundle"
    return add_cuda_variant(demo, folder, BUCKETS, has_prologue=request.param)


def count(calls: list[Call], name: str) -> int:
    return sum(call.name == name for call in calls)


def test_a_step_is_its_uploads_and_one_launch_with_no_wait_before_the_last(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    rig.open(bundle)
    rig.driver.ask("warm_up")
    rig.edit()
    calls = rig.edit(steps=6)
    launches = [at for at, call in enumerate(calls) if call.name == "cudaGraphLaunch"]
    assert len(launches) == 6
    for first, second in pairwise(launches):
        between = [call.name for call in calls[first + 1 : second]]
        # timestep, solver and reinject
        assert between == ["cudaMemcpyAsync"] * 3 + ["cudaEventRecord"]
    waits = [at for at, call in enumerate(calls) if "Synchronize" in call.name]
    assert waits[0] > launches[-1]
    assert not [call for call in calls if call.name in ("cudaMalloc", "cudaHostAlloc", "cudaMemcpy")]


def test_warm_up_captures_every_bucket_both_ways_and_nothing_does_later(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    rig.open(bundle)
    calls = rig.calls(lambda: rig.driver.ask("warm_up"))
    # Buckets of several slots are launched with all four of them: (1,1), (1,2), (4,8), (4,12).
    assert count(calls, "cudaStreamBeginCapture") == 2 * len(BUCKETS)
    assert not [call for call in calls if call.name == "ILLEGAL_IN_CAPTURE"]
    again = rig.calls(lambda: rig.driver.ask("warm_up"))
    edits = rig.edit(guidance=1) + rig.edit(count=4) + rig.edit(guidance=3, count=3)
    # An edit on another thread of the caller's replays the same graphs.
    edits += rig.edit(thread=True)
    for later in (again, edits):
        assert not [
            call for call in later if call.name in ("cudaStreamBeginCapture", "ILLEGAL_IN_CAPTURE", "cudaMalloc")
        ]
    assert count(edits, "cudaGraphLaunch") == 4 * EDIT["steps"]


def test_one_thread_launches_whatever_thread_calls(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig()
    rig.open(demo)
    calls = rig.edit() + rig.edit(thread=True) + rig.edit(thread=True, count=2)
    launching = {call.thread for call in calls if call.name in ("cudaGraphLaunch", "KERNEL", "cudaStreamBeginCapture")}
    assert len(launching) == 1


def test_without_a_warm_up_each_shape_is_captured_once(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig()
    rig.open(demo)
    assert count(rig.edit(), "cudaStreamBeginCapture") == 2
    assert count(rig.edit(), "cudaStreamBeginCapture") == 0
    assert count(rig.edit(count=4), "cudaStreamBeginCapture") == 2


def test_the_prologue_runs_when_the_rows_change_and_not_in_every_step(
    make_rig: MakeRig, demo: Path, tmp_path: Path
) -> None:
    products = []
    for has_prologue in (False, True):
        rig = make_rig()
        rig.open(add_cuda_variant(demo, tmp_path / str(has_prologue), BUCKETS, has_prologue=has_prologue))
        rig.driver.ask("warm_up")
        rig.edit()
        calls = rig.edit(steps=6)
        first = next(at for at, call in enumerate(calls) if call.name == "cudaGraphLaunch")
        products.append((count_products(calls[:first]), count_products(calls[first : last_launch(calls)])))
    (none, _), (some, later) = products
    assert none == 0
    assert some == 28
    assert later == 0


def test_everything_is_on_the_callers_stream(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    calls = rig.calls(lambda: rig.open(bundle, cuda_stream=STREAM, load=True))
    calls += rig.calls(lambda: rig.driver.ask("warm_up")) + rig.edit()
    calls += rig.calls(lambda: rig.driver.ask("close"))
    assert not [call for call in calls if call.name.startswith(("cudaStreamCreate", "cudaStreamDestroy"))]
    streams = {call.stream for call in calls if call.name in ("KERNEL", "cudaGraphLaunch", "cudaStreamBeginCapture")}
    assert streams == {STREAM}


def test_an_editor_gives_back_what_it_took(make_rig: MakeRig, bundle: Path) -> None:
    rig = make_rig()
    rig.open(bundle)
    rig.driver.ask("warm_up")
    rig.edit()
    alive = rig.calls(lambda: [rig.driver.ask("close"), rig.close()])
    kinds = dict(call.detail.rsplit(" ", 1) for call in alive if call.name == "ALIVE")
    assert {"event", "executable graph", "stream", "device memory", "pinned memory"} <= kinds.keys()
    assert set(kinds.values()) == {"0"}


def test_a_lost_gpu_is_fatal_for_every_later_call(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig(STANDIN_LOSE_DEVICE_AT="600")
    rig.open(demo, load=True)
    for _ in range(2):
        with pytest.raises(Refused, match=r"the GPU is lost to this process.*restart the process") as refused:
            rig.edit()
        assert refused.value.kind == "fatal DeviceError"


def test_too_little_memory_is_told_as_such(make_rig: MakeRig, demo: Path) -> None:
    """At any allocation, an editor either says that memory is short or is not harmed."""
    seen = Counter[str]()
    for at in (0, 5, 20, 40, 60, 70):
        rig = make_rig(STANDIN_NO_MEMORY_AT=str(at))
        try:
            rig.open(demo, load=True)
            rig.edit()
        except Refused as refused:
            assert refused.kind == "DeviceError"
            assert "no memory on the GPU" in str(refused)
            seen[refused.kind] += 1
    assert seen["DeviceError"] > 3


def test_without_cudas_libraries_nothing_runs_on_the_cpu_instead(make_rig: MakeRig, demo: Path, tmp_path: Path) -> None:
    rig = make_rig(LD_LIBRARY_PATH=str(tmp_path))
    with pytest.raises(
        Refused, match=r"no CUDA provider that can be loaded.*cannot open shared object.*LD_LIBRARY_PATH"
    ):
        rig.open(demo)


def test_a_gpu_that_is_not_there_is_told_when_the_editor_opens(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig()
    with pytest.raises(Refused, match="GPU 3 cannot be used") as refused:
        rig.driver.ask("open", path=str(demo), device="cuda:3")
    assert refused.value.kind == "DeviceError"


def test_an_old_driver_is_told_when_the_editor_opens(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig(STANDIN_DRIVER="12000")
    with pytest.raises(Refused, match=r"GPU 0 cannot be used.*update the driver") as refused:
        rig.open(demo)
    assert refused.value.kind == "DeviceError"


def test_another_gpu_is_the_one_that_was_asked_for(make_rig: MakeRig, demo: Path) -> None:
    rig = make_rig(STANDIN_DEVICES="2")
    rig.driver.ask("open", path=str(demo), device="cuda:1")
    calls = rig.edit()
    assert {call.device for call in calls if call.name in ("KERNEL", "cudaGraphLaunch", "cudaMemcpyAsync")} == {1}


def test_editors_of_one_process_do_not_disturb_each_others_captures(built: Path, demo: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    done = run(
        [built / "tests" / "editors_test"],
        env={**open_standin(log), "ALTERBUTE_TEST_CUDA_BUNDLE": str(demo)},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    calls = read_log(log)
    # Two directions of the shape that is launched, of the editor that captures in its edits.
    assert count(calls, "cudaStreamBeginCapture") > 2
    assert not [call for call in calls if call.name == "ILLEGAL_IN_CAPTURE"]


def count_products(calls: list[Call]) -> int:
    return sum(call.name.startswith(("cublasSgemm", "cublasGemm")) for call in calls)


def last_launch(calls: list[Call]) -> int:
    return max(at for at, call in enumerate(calls) if call.name == "cudaGraphLaunch")
