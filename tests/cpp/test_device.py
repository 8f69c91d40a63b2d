"""The path of a GPU with the host's memory under it: sessions run on the CPU provider over bound memory, so that the bytes of an
edit can be compared with those of the CPU's own path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cpp.cuda_bundle import add_cuda_variant
from tests.cpp.driver import Driver, Refused
from tests.cpp.test_edits import draw_mask, draw_photo

# From two slots and two rows on a slot's bits do not depend on its launch.
BUCKETS = ((2, 2), (2, 4), (4, 8), (4, 12))
PHOTO, MASK = draw_photo(96, 80), draw_mask(96, 80, 0)
# Images that join and leave at different steps, with one, two and three rows, with and without fresh noise.
SEVERAL = [
    {"prompt": "color: red", "seed": 4, "steps": 5},
    {"prompt": "color: blue", "seed": 5, "steps": 3, "solver": "euler_a"},
    {"prompt": "color: green", "seed": 6, "steps": 2, "guidance": 1},
    {"prompt": "color: orange", "seed": 7, "steps": 6, "guidance_interval": [0.3, 0.7]},
    {"prompt": "color: blue", "seed": 8, "steps": 2, "solver": "lcm"},
    {"prompt": "color: pink", "seed": 9, "steps": 4, "guidance_rescale": 0.5},
]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "prologue"])
def bundle(request: pytest.FixtureRequest, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle with a CUDA variant, whose step graph computes everything itself or has a prologue."""
    folder = tmp_path_factory.mktemp("cuda") / "bundle"
    return add_cuda_variant(demo, folder, BUCKETS, has_prologue=request.param)


@pytest.fixture
def host(built: Path) -> Iterator[Driver]:
    """A driver of its own."""
    with Driver(built / "tests" / "driver") as driver:
        yield driver


def open_device(driver: Driver, bundle: Path, **options: Any) -> None:
    driver.ask("open", path=str(bundle), device="cuda", on_host=True, **options)


def images_of(driver: Driver) -> list[bytes]:
    images, _, _ = driver.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=4)
    picture = {"photo": [0, 80, 96, 3, 8], "mask": [1, 80, 96, 1, 8]}
    _, several = driver.ask("edit", [PHOTO.tobytes(), MASK.tobytes()], requests=SEVERAL, **picture)
    return [images[0].tobytes(), *several]


def calls(driver: Driver, function: str) -> int:
    told, _ = driver.ask("device", function=function)
    return int(told["calls"])


@pytest.mark.parametrize("is_warm", [False, True])
def test_edits_over_bound_memory_give_the_bytes_of_the_cpu(host: Driver, bundle: Path, is_warm: bool) -> None:
    host.ask("open", path=str(bundle))
    expected = images_of(host)
    open_device(host, bundle)
    if is_warm:
        host.ask("warm_up")
    for _ in range(2):
        found = images_of(host)
        assert len(found) == 1 + len(SEVERAL)
        assert [one == other for one, other in zip(found, expected, strict=True)] == [True] * len(expected)


def test_the_device_is_left_as_it_was(host: Driver, bundle: Path) -> None:
    open_device(host, bundle)
    images_of(host)
    assert host.ask("device", function="free")[0]["allocations"] > 0
    host.ask("close")
    assert host.ask("device", function="free")[0]["allocations"] == 0
    assert calls(host, "create_event") == calls(host, "destroy_event") > 0
    assert calls(host, "create_stream") == calls(host, "destroy_stream") == 1


def test_the_callers_stream_is_neither_replaced_nor_destroyed(host: Driver, bundle: Path) -> None:
    open_device(host, bundle, cuda_stream=0x7000)
    host.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=2)
    host.ask("close")
    assert calls(host, "create_stream") == calls(host, "destroy_stream") == 0


def test_a_step_uploads_what_changes_and_the_host_waits_once(host: Driver, bundle: Path) -> None:
    open_device(host, bundle)
    uploads, waits = [], []
    for steps in (4, 12):
        before = [calls(host, name) for name in ("copy", "wait_stream", "wait_event")]
        host.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=steps)
        after = [calls(host, name) for name in ("copy", "wait_stream", "wait_event")]
        uploads.append(after[0] - before[0])
        waits.append((after[1] - before[1], after[2] - before[2]))
    # timestep, solver and reinject
    assert uploads[1] - uploads[0] == 8 * 3
    assert waits == [(1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("function", "code", "kind", "pattern"),
    [
        ("allocate", 2, "DeviceError", "no memory on the GPU.*fewer slots"),
        ("allocate_pinned", 2, "DeviceError", "no memory on the GPU.*fewer slots"),
        ("copy", 1, "DeviceError", "cudaMemcpyAsync failed"),
        ("wait_stream", 700, "fatal DeviceError", "lost to this process.*restart the process"),
        ("record_event", 719, "fatal DeviceError", "lost to this process.*restart the process"),
    ],
)
@pytest.mark.parametrize("at", [1, 2])
def test_a_fault_of_the_device_is_told_as_what_it_is(
    host: Driver, demo: Path, function: str, code: int, kind: str, pattern: str, at: int
) -> None:
    open_device(host, demo)
    host.ask("device", function=function, code=code, at=at)
    is_missed = function == "wait_stream" and at == 2
    if is_missed:
        host.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=3)
    for _ in range(2):
        with pytest.raises(Refused, match=pattern) as refused:
            host.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=3)
        assert refused.value.kind == kind
    host.ask("device", function=function)
    if kind == "DeviceError":
        host.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=3)
        host.ask("close")
        assert host.ask("device", function="free")[0]["allocations"] == 0
    else:
        # The device stays lost, whatever it answers from now on.
        with pytest.raises(Refused, match=pattern):
            host.edit(PHOTO, MASK, prompt="color: red", seed=4, steps=3)


def test_a_driver_that_is_missing_is_told_when_the_editor_opens(host: Driver, demo: Path) -> None:
    host.ask("device", function="set_device", code=35, at=1)
    with pytest.raises(Refused, match=r"GPU 1 cannot be used.*nvidia-smi") as refused:
        host.ask("open", path=str(demo), device="cuda:1", on_host=True)
    assert refused.value.kind == "DeviceError"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda-1", "cuda:1000", "cud"])
def test_an_unknown_device_is_refused(driver: Driver, cpp_editor: Driver, demo: Path, device: str) -> None:
    with pytest.raises(Refused, match="one of cpu, cuda") as refused:
        driver.ask("open", path=str(demo), device=device)
    assert refused.value.code == "device_unknown"


def test_a_launch_that_no_listed_bucket_holds_gets_one(host: Driver, demo: Path, tmp_path: Path) -> None:
    bundle = add_cuda_variant(demo, tmp_path / "bundle", ((2, 4),), has_prologue=True)
    host.ask("open", path=str(bundle))
    expected = images_of(host)
    for slots in (2, 4):
        open_device(host, bundle, slots=slots)
        assert [one == other for one, other in zip(images_of(host), expected, strict=True)] == [True] * len(expected)
