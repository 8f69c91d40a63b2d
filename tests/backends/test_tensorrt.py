"""Promises of the TensorRT backend, kept over stand-ins: order of calls, addresses once, one capture per shape, faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute.bundle import Bundle
from alterbute.editor import Editor
from alterbute.errors import DeviceError, EngineError
from alterbute.result import EditResult

from tests.backends.conftest import Rig, draw_photo_and_mask
from tests.backends.fake_cuda import D2H
from tests.support.engines import write_engines


def _edit(rig: Rig, prompts: tuple[str, ...] = ("color: red",), **options: object) -> list[EditResult]:
    photo, mask = draw_photo_and_mask()
    with Editor(rig.bundle, backend=rig.open()) as editor:
        return editor.prepare(photo, mask).edit_many(prompts, seed=3, steps=6, **options)  # type: ignore[arg-type]


def test_an_edit_through_the_device_gives_the_bytes_of_an_edit_on_the_host(rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    prompts = ("color: red", "color: blue", "material: metal")
    on_device = _edit(rig, prompts)
    with Editor(rig.bundle, backend=rig.reference, slots=4) as editor:
        on_host = editor.prepare(photo, mask).edit_many(prompts, seed=3, steps=6)
    for device, host in zip(on_device, on_host, strict=True):
        assert np.array_equal(np.asarray(device.image), np.asarray(host.image))


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_stochastic_and_multistep_solvers_keep_their_state_on_the_device(rig: Rig, solver: str) -> None:
    photo, mask = draw_photo_and_mask()
    (device,) = _edit(rig, solver=solver, eta=1.0 if solver == "ddim" else 0.0)
    with Editor(rig.bundle, backend=rig.reference) as editor:
        host = editor.edit(
            photo, mask, "color: red", seed=3, steps=6, solver=solver, eta=1.0 if solver == "ddim" else 0.0
        )
    assert np.array_equal(np.asarray(device.image), np.asarray(host.image))


def test_every_address_is_set_once_per_context(rig: Rig) -> None:
    _edit(rig)
    seen = [
        (owner, arguments[0])
        for owner, method, arguments in rig.trt.calls
        if method == "set_tensor_address" and owner.startswith("step")
    ]
    assert seen
    assert len(seen) == len(set(seen))


def test_the_step_is_captured_once_per_shape_and_direction_after_one_plain_run(rig: Rig) -> None:
    _edit(rig)
    # Six steps in one shape: each direction runs plain, is captured, and is replayed.
    runs = [
        (owner, arguments[0])
        for owner, method, arguments in rig.trt.calls
        if method == "execute_async_v3" and owner.startswith("step")
    ]
    contexts = dict.fromkeys(owner for owner, _ in runs)
    assert len(contexts) == 2
    for context in contexts:
        assert [captured for owner, captured in runs if owner == context] == [False, True]
    assert rig.cuda.count("cudaStreamBeginCapture") == 2
    assert rig.cuda.count("cudaGraphLaunch") == 4


def test_capture_is_thread_local(rig: Rig) -> None:
    _edit(rig)
    modes = {call[1] for call in rig.cuda.calls if call[0] == "cudaStreamBeginCapture"}
    assert modes == {rig.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal}


def test_nothing_is_waited_for_between_the_first_step_and_the_last(rig: Rig) -> None:
    _edit(rig)
    names = [call[0] if call[0] != "cudaMemcpyAsync" else call[4] for call in rig.cuda.calls]
    events = [
        name for name in names if name in ("cudaGraphLaunch", "cudaStreamSynchronize", "cudaEventSynchronize", D2H)
    ]
    first, last = events.index("cudaGraphLaunch"), len(events) - 1 - events[::-1].index("cudaGraphLaunch")
    assert set(events[first : last + 1]) == {"cudaGraphLaunch"}


def test_a_step_uploads_only_its_numbers(rig: Rig) -> None:
    _edit(rig)
    calls = rig.cuda.calls
    launches = [index for index, call in enumerate(calls) if call[0] == "cudaGraphLaunch"]
    uploads = [call for call in calls[launches[1] : launches[2]] if call[0] == "cudaMemcpyAsync"]
    # timestep, solver matrix and re-injection of two slots
    assert sorted(call[3] for call in uploads) == sorted([2 * 4, 2 * 4 * 6 * 4, 2 * 2 * 4])


def test_scratch_memory_is_one_arena_of_the_largest_plan(rig: Rig) -> None:
    _edit(rig)
    arenas = {arguments for _, method, arguments in rig.trt.calls if method == "set_device_memory"}
    assert {size for _, size in arenas} == {1 << 16}
    assert len(arenas) == 1
    managed = rig.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    assert {arguments[0] for _, method, arguments in rig.trt.calls if method == "create_execution_context"} == {managed}


def test_a_graph_captured_before_the_arena_moved_is_never_launched_again(rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    backend = rig.open()
    with Editor(rig.bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        first = subject.edit("color: red", seed=3, steps=6)
        before = rig.cuda.count("cudaStreamBeginCapture")
        graphs: Any = backend._graphs
        backend.on_device(lambda: graphs._scratch.grow(1 << 20))
        second = subject.edit("color: red", seed=3, steps=6)
    assert rig.cuda.count("cudaGraphExecDestroy") >= 2
    assert rig.cuda.count("cudaStreamBeginCapture") == 2 * before
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))


def test_a_step_that_cannot_be_captured_runs_uncaptured(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.trt.broken.add("capture step")
    (result,) = _edit(rig)
    assert rig.cuda.count("cudaGraphLaunch") == 0
    assert "cannot be captured" in caplog.text
    assert result.image.size


def test_shapes_between_buckets_go_into_the_next_larger_one(rig: Rig) -> None:
    _edit(rig, ("color: red", "color: blue", "color: green"))
    shapes = {
        arguments[1]
        for owner, method, arguments in rig.trt.calls
        if method == "set_input_shape" and arguments[0] == "guidance"
    }
    assert shapes <= {(2, 2), (2, 4), (4, 8), (4, 12)}


def test_after_warm_up_no_edit_captures_and_none_makes_a_context(rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    with Editor(rig.bundle, backend=rig.open()) as editor:
        editor.warm_up()

        def count() -> tuple[int, int]:
            contexts = sum(method == "create_execution_context" for _, method, _ in rig.trt.calls)
            return rig.cuda.count("cudaStreamBeginCapture"), contexts

        warm = count()
        subject = editor.prepare(photo, mask)
        for prompts in (["color: red"], ["color: red", "color: blue"], ["color: red"] * 4):
            subject.edit_many(prompts, seed=3, steps=4)
        assert count() == warm
    assert warm[0] >= 2


def test_a_backend_of_another_gpu_makes_it_current_on_its_thread_once(rig: Rig) -> None:
    rig.open(device=1).close()
    assert [call for call in rig.cuda.calls if call[0] == "cudaSetDevice"] == [("cudaSetDevice", 1)]
    assert rig.cuda.calls[0][0] == "cudaSetDevice"


def test_a_launch_larger_than_every_bucket_is_refused_with_the_buckets(engine_bundle: Bundle, rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    with (
        Editor(rig.bundle, backend=rig.open(), slots=8) as editor,
        pytest.raises(EngineError, match=r"\[4, 12\].*add a bucket to recipe h200_fp16"),
    ):
        editor.prepare(photo, mask).edit_many(["color: red"] * 8, seed=1, steps=2)


def test_close_frees_everything(rig: Rig) -> None:
    _edit(rig)
    assert not rig.cuda.memory
    assert not rig.cuda.pinned
    assert not any(rig.cuda.live.values())


@pytest.mark.parametrize("code", [700, 719, 214, 702])
@pytest.mark.parametrize("call", ["cudaGraphLaunch", "cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_a_lost_device_is_fatal_and_every_later_call_says_so(rig: Rig, call: str, code: int) -> None:
    photo, mask = draw_photo_and_mask()
    backend = rig.open()
    with Editor(rig.bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        rig.cuda.fail(call, code)
        for _ in range(2):
            with pytest.raises(DeviceError, match=f"cudaError{code}.*restart the process") as caught:
                subject.edit("color: red", seed=3, steps=6)
            assert caught.value.is_fatal


def test_a_kernel_that_fails_on_a_lost_device_tells_of_the_device(rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    with Editor(rig.bundle, backend=rig.open()) as editor:
        subject = editor.prepare(photo, mask)
        rig.trt.broken.add("execute step")
        rig.cuda.fail("cudaMemGetInfo", 700)
        with pytest.raises(DeviceError) as caught:
            subject.edit("color: red", seed=3, steps=6)
    assert caught.value.is_fatal


def test_a_kernel_that_fails_alone_tells_the_librarys_reason_and_is_not_fatal(rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    with Editor(rig.bundle, backend=rig.open()) as editor:
        subject = editor.prepare(photo, mask)
        rig.trt.broken.add("execute step")
        with pytest.raises(DeviceError, match="the kernel did not start") as caught:
            subject.edit("color: red", seed=3, steps=6)
        assert not caught.value.is_fatal
        rig.trt.broken.clear()
        assert subject.edit("color: red", seed=3, steps=6).image.size


def test_no_memory_is_not_fatal_and_says_what_to_do(rig: Rig) -> None:
    rig.cuda.fail("cudaMalloc", 2)
    with pytest.raises(DeviceError, match=r"no memory.*use fewer slots") as caught:
        rig.open()
    assert not caught.value.is_fatal


def test_engines_larger_than_the_free_memory_are_refused_before_any_is_loaded(rig: Rig) -> None:
    rig.cuda._free_bytes = 10
    with pytest.raises(EngineError, match="free the GPU"):
        rig.open()
    assert not rig.trt.seen_bytes


def test_a_plan_that_does_not_load_tells_the_librarys_reason(rig: Rig) -> None:
    rig.trt.broken.add("deserialize step")
    with pytest.raises(EngineError, match=r"of another version.*rebuild it on this machine: recipe h200_fp16"):
        rig.open()


def test_a_runtime_that_is_a_null_pointer_is_an_error(rig: Rig) -> None:
    rig.trt.broken.add("Runtime")
    with pytest.raises(EngineError, match=r"creates no runtime.*update the NVIDIA driver"):
        rig.open()


def test_a_plan_whose_edges_are_not_the_manifests_is_refused(rig: Rig) -> None:
    rig.trt.broken.add("half text")
    with pytest.raises(EngineError, match="text another type"):
        rig.open()


def test_a_stripped_plan_gets_its_weights_from_verified_copies(
    tiny_bundle: Path, tmp_path: Path, make_rig: Callable[[Bundle], Rig]
) -> None:
    rig = make_rig(write_engines(tiny_bundle, tmp_path / "bundle", refit="identical"))
    assert _edit(rig)
    sources = [arguments[0] for _, method, arguments in rig.trt.calls if method == "refit_from_file"]
    assert len(sources) == 5
    assert not any(str(rig.bundle.path) in source for source in sources)
    assert not any(Path(source).exists() for source in sources)


def test_a_stripped_plan_that_takes_no_weights_is_refused(
    tiny_bundle: Path, tmp_path: Path, make_rig: Callable[[Bundle], Rig]
) -> None:
    rig = make_rig(write_engines(tiny_bundle, tmp_path / "bundle", refit="identical"))
    rig.trt.broken.add("refit")
    with pytest.raises(EngineError, match="does not take the weights"):
        rig.open()


def test_numbers_that_are_not_finite_end_in_an_error_and_no_picture(rig: Rig) -> None:
    photo, mask = draw_photo_and_mask()
    with Editor(rig.bundle, backend=rig.open()) as editor:
        subject = editor.prepare(photo, mask)
        broken = replace(
            subject,
            scenes=(replace(subject.scenes[0], background=np.full_like(subject.scenes[0].background, np.nan)),),
        )
        with pytest.raises(EngineError, match="not finite"):
            broken.edit("color: red", seed=3, steps=4)
