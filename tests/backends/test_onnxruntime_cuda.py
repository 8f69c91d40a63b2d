"""ONNX Runtime's device backend, run for real on the CPU provider: device memory of the stand-in is host memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import pytest
from alterbute.backends import Backend
from alterbute.backends.cuda.libraries import CUDA_PROVIDER
from alterbute.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from alterbute.backends.onnxruntime_cuda.gpu_session import NO_CAPTURE, GpuSession
from alterbute.backends.onnxruntime_cuda.graph_files import choose_variants
from alterbute.bundle import Bundle, open_bundle
from alterbute.editor import Editor
from alterbute.errors import DeviceError, EngineError
from alterbute.request import EditRequest

from tests.backends.conftest import draw_photo_and_mask
from tests.backends.fake_cuda import FakeCuda
from tests.support.backends import SharedBackend
from tests.support.cuda_graphs import expand_cuda_files
from tests.support.half_bundle import write_half_bundle

OpenOn: TypeAlias = Callable[..., tuple[OnnxRuntimeCudaBackend, FakeCuda]]


@pytest.fixture
def open_on(reference: Backend) -> OpenOn:
    def make(bundle: Bundle, **options: Any) -> tuple[OnnxRuntimeCudaBackend, FakeCuda]:
        cuda: Any = FakeCuda()
        backend = OnnxRuntimeCudaBackend(
            bundle,
            ort=onnxruntime,
            cuda_api=cuda,
            host=SharedBackend(reference),
            **{"provider": "CPUExecutionProvider", "kind": "cpu", **options},
        )
        return backend, cuda

    return make


def test_an_edit_over_bound_memory_gives_the_bytes_of_a_plain_edit(
    tiny_bundle: Path, reference: Backend, open_on: OpenOn
) -> None:
    bundle = open_bundle(tiny_bundle)
    photo, mask = draw_photo_and_mask()
    prompts = ["color: red", "color: blue"]
    backend, cuda = open_on(bundle)
    with Editor(bundle, backend=backend) as editor:
        bound = editor.prepare(photo, mask).edit_many(prompts, seed=3, steps=5)
    with Editor(bundle, backend=SharedBackend(reference)) as editor:
        plain = editor.prepare(photo, mask).edit_many(prompts, seed=3, steps=5)
    for one, other in zip(bound, plain, strict=True):
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert not cuda.memory
    assert not cuda.pinned


class Runs:
    """The runs over bound memory: the graph, and the number of the CUDA graph or -1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int]] = []
        run_bound = GpuSession.run_bound

        def spy(session: GpuSession, binding: Any, annotation: int = NO_CAPTURE) -> None:
            self.seen.append((session._graph, annotation))
            run_bound(session, binding, annotation)

        monkeypatch.setattr(GpuSession, "run_bound", spy)

    def take(self, graph: str) -> list[int]:
        taken = [annotation for name, annotation in self.seen if name == graph]
        self.seen.clear()
        return taken


def test_each_bucket_and_direction_has_its_own_graph_annotation(
    tiny_bundle: Path, open_on: OpenOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, runs = open_bundle(tiny_bundle), Runs(monkeypatch)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(bundle)
    with Editor(bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        subject.edit("color: red", seed=3, steps=4)
        assert runs.take("step") == [1, 2, 1, 2]
        subject.edit_many(["color: red", "color: blue"], seed=3, steps=4)
        assert runs.take("step") == [3, 4, 3, 4]
        # One image more falls into the next bucket, and four images of the same rows into the largest.
        subject.edit_many(["color: red"] * 3, seed=3, steps=4)
        assert runs.take("step") == [5, 6, 5, 6]


def test_after_warm_up_no_edit_captures(tiny_bundle: Path, open_on: OpenOn, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, runs = open_bundle(tiny_bundle), Runs(monkeypatch)
    photo, mask = draw_photo_and_mask()
    backend, cuda = open_on(bundle)
    with Editor(bundle, backend=backend) as editor:
        editor.warm_up()
        warm = runs.take("step")
        allocations = [cuda.count(name) for name in ("cudaMalloc", "cudaHostAlloc")]
        subject = editor.prepare(photo, mask)
        for count in (1, 2, 3, 4, 6):
            subject.edit_many(["color: red", "color: blue"][: count % 2 + 1], seed=3, steps=4, count=count)
        subject.edit("color: red", guidance=1.0, steps=3)
        assert set(runs.take("step")) <= set(warm)
        assert [cuda.count(name) for name in ("cudaMalloc", "cudaHostAlloc")] == allocations
    # Every bucket in two directions, twice: ONNX Runtime captures in the first run, TensorRT in the second.
    assert sorted(warm) == sorted([*set(warm)] * 2)


def test_warm_up_between_two_steps_changes_no_image(tiny_bundle: Path, open_on: OpenOn) -> None:
    bundle = open_bundle(tiny_bundle)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(bundle)
    with Editor(bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)

        def warm_up(event: Any) -> None:
            editor.lane.warm_up()

        plain = subject.edit("color: red", seed=3, steps=4)
        disturbed = subject.edit("color: red", seed=3, steps=4, progress=warm_up)
    assert np.array_equal(np.asarray(plain.image), np.asarray(disturbed.image))


def test_any_thread_may_edit_and_none_captures_again(
    tiny_bundle: Path, open_on: OpenOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, runs = open_bundle(tiny_bundle), Runs(monkeypatch)
    photo, mask = draw_photo_and_mask()
    backend, cuda = open_on(bundle)
    callers: set[int] = set()
    enter = cuda._enter

    def note(*call: Any) -> int:
        callers.add(get_ident())
        return enter(*call)

    monkeypatch.setattr(cuda, "_enter", note)
    with Editor(bundle, backend=backend) as editor, ThreadPoolExecutor(4) as pool:
        subject = editor.prepare(photo, mask)
        images = [
            np.asarray(future.result().image)
            for future in [pool.submit(subject.edit, "color: red", seed=3, steps=4) for _ in range(4)]
        ]
    assert runs.take("step") == [1, 2, 1, 2] * 4
    assert all(np.array_equal(images[0], image) for image in images)
    assert len(callers) == 1
    assert get_ident() not in callers


def test_exact_gives_an_image_the_same_bytes_alone_and_beside_others(
    tiny_bundle: Path, open_on: OpenOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, runs = open_bundle(tiny_bundle), Runs(monkeypatch)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(bundle, exact=True)
    with Editor(bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        alone = subject.edit("color: red", seed=3, steps=4)
        beside = subject.edit_many(["color: red", "color: blue", "material: metal"], seed=3, steps=4)[0]
    assert set(runs.take("step")) == {1, 2}
    assert np.array_equal(np.asarray(alone.image), np.asarray(beside.image))


def test_padding_rows_read_no_slot_that_holds_nan(tiny_bundle: Path, open_on: OpenOn) -> None:
    bundle = open_bundle(tiny_bundle)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(bundle)
    with Editor(bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        jobs = list(editor.make_jobs(subject, [EditRequest(prompt="color: red", seed=3, steps=4)] * 2, None))
        lane = editor.lane
        for job in jobs:
            lane.admit(job)
        slots = lane._sizes[jobs[0].cells]
        slots._state.write_slot(0, np.full(slots._buffers.state_shape[1:], np.nan, np.float32))
        lane.evict(jobs[0])
        results = [result for _ in range(4) for result in lane.step()]
    assert [result.fault for result in results] == [None]
    assert np.isfinite(results[0].latent).all()


@pytest.mark.parametrize("exact", [False, True], ids=["made for CUDA", "deterministic"])
def test_the_half_precision_variant_is_taken_where_the_bundle_has_one(
    tiny_bundle: Path, tmp_path: Path, reference: Backend, open_on: OpenOn, exact: bool
) -> None:
    bundle = open_bundle(tiny_bundle)
    half_bundle = write_half_bundle(tiny_bundle, tmp_path / "bundle", expand_cuda_files)
    step = choose_variants(half_bundle, exact=exact)["step"]
    assert (step.precision, step.is_deterministic, step.prologue is None) == ("fp16", exact, exact)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(half_bundle, exact=exact)
    with Editor(bundle, backend=backend) as editor:
        half = np.asarray(editor.edit(photo, mask, "color: red", seed=3, steps=5).image, np.float32)
    with Editor(bundle, backend=SharedBackend(reference)) as editor:
        full = np.asarray(editor.edit(photo, mask, "color: red", seed=3, steps=5).image, np.float32)
    assert not np.array_equal(half, full)
    assert 20 * np.log10(255 / np.sqrt(np.mean((half - full) ** 2))) >= 40


def test_a_lost_device_is_fatal(tiny_bundle: Path, open_on: OpenOn) -> None:
    bundle = open_bundle(tiny_bundle)
    photo, mask = draw_photo_and_mask()
    backend, cuda = open_on(bundle)
    with Editor(bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        cuda.fail("cudaStreamSynchronize", 719)
        for _ in range(2):
            with pytest.raises(DeviceError) as caught:
                subject.edit("color: red", seed=3, steps=2)
            assert caught.value.is_fatal


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_is_not_on_the_gpu_is_an_engine_error(tiny_bundle: Path, open_on: OpenOn) -> None:
    # This build of ONNX Runtime puts the session on the CPU, as one does that misses CUDA's libraries.
    with pytest.raises(EngineError, match=r"put the graph 'step' on CPUExecutionProvider.*alterbute\[cuda\]") as caught:
        open_on(open_bundle(tiny_bundle), provider=CUDA_PROVIDER)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, DeviceError)


def test_a_gpu_with_too_little_memory_is_refused_before_a_session_is_made(
    tiny_bundle: Path, open_on: OpenOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCuda, "cudaMemGetInfo", lambda cuda: (0, 10, 1 << 35))
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(DeviceError, match=r"found no memory on the GPU \(0 MB are free\).*free the GPU") as caught:
        open_on(open_bundle(tiny_bundle))
    assert not caught.value.is_fatal


@pytest.mark.parametrize(
    ("message", "expected", "is_fatal"),
    [
        ("CUDA failure 700: an illegal memory access ; GPU=0 ; hostname=h", "CUDA error 700.*restart", True),
        ("CUDA failure 2: out of memory ; GPU=0 ; hostname=h", "no memory on the GPU.*fewer slots", False),
        ("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 9", "no memory on the GPU", False),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=h", "no memory on the GPU", False),
        ("CUDNN failure 8: it did not run ; GPU=0 ; hostname=h\nmore", r"\(CUDNN failure 8: it did not run\)", False),
    ],
)
@pytest.mark.parametrize("where", ["run", "io_binding", "run_with_iobinding"])
def test_no_error_of_onnx_runtime_leaves_the_backend_raw(
    tiny_bundle: Path,
    open_on: OpenOn,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    message: str,
    expected: str,
    is_fatal: bool,
) -> None:
    bundle = open_bundle(tiny_bundle)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(bundle)

    def fail(*arguments: Any) -> None:
        raise RuntimeError(message)

    editor = Editor(bundle, backend=backend)
    with monkeypatch.context() as patch:
        session = onnxruntime.InferenceSession
        patch.setattr(session, where, fail)
        # The image graphs run on the host with the same class.
        with pytest.raises(DeviceError, match=expected) as caught:
            if where == "run":
                backend.run("decode", {"latent": np.zeros((1, *_latent(bundle)), np.float32)})
            else:
                backend.open_step_state((1, 4, *_latent(bundle))).warm_up()
    assert caught.value.is_fatal is is_fatal
    assert "\n" not in str(caught.value)
    if is_fatal:
        with pytest.raises(DeviceError) as again:
            editor.edit(photo, mask, "color: red", seed=3, steps=2)
        assert again.value.is_fatal
    else:
        assert editor.edit(photo, mask, "color: red", seed=3, steps=2).image.size
    editor.close()


def test_a_state_without_room_is_not_fatal_and_close_frees_what_it_had(tiny_bundle: Path, open_on: OpenOn) -> None:
    bundle = open_bundle(tiny_bundle)
    backend, cuda = open_on(bundle)
    cuda.fail("cudaMalloc", 2, after=5)
    with pytest.raises(DeviceError, match="no memory") as caught:
        Editor(bundle, backend=backend)
    assert not caught.value.is_fatal
    assert cuda.memory
    backend.close()
    assert not cuda.memory
    assert not cuda.pinned


def test_close_after_the_loss_of_the_device_neither_hangs_nor_raises(tiny_bundle: Path, open_on: OpenOn) -> None:
    bundle = open_bundle(tiny_bundle)
    backend, cuda = open_on(bundle)
    editor = Editor(bundle, backend=backend)
    cuda.fail("cudaMemcpyAsync", 719)
    with pytest.raises(DeviceError) as caught:
        editor.edit(*draw_photo_and_mask(), "color: red", seed=3, steps=2)
    assert caught.value.is_fatal
    editor.close()
    with pytest.raises(EngineError, match="closed"):
        backend.run("decode", {})


def test_an_editor_that_is_collected_frees_the_device(tiny_bundle: Path, open_on: OpenOn) -> None:
    bundle = open_bundle(tiny_bundle)
    backend, cuda = open_on(bundle)
    thread: Any = backend._thread._thread
    editor = Editor(bundle, backend=backend)
    editor.edit(*draw_photo_and_mask(), "color: red", seed=3, steps=2)
    assert cuda.memory
    del editor, backend
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    assert not cuda.memory
    assert not cuda.pinned
    assert not any(cuda.live.values())


def _latent(bundle: Bundle) -> tuple[int, int, int]:
    manifest = bundle.manifest
    cells = manifest.resolution // manifest.latent_factor
    return manifest.latent_channels, cells, cells


def test_the_session_of_a_lost_device_is_never_freed(tiny_bundle: Path, open_on: OpenOn) -> None:
    """ONNX Runtime's CUDA provider ends the process when it frees memory of a lost device."""
    kept = []
    for is_lost in (False, True):
        backend, cuda = open_on(open_bundle(tiny_bundle))
        graphs: Any = backend._graphs
        session = weakref.ref(graphs._sessions["decode"]._session)
        if is_lost:
            cuda.fail("cudaStreamSynchronize", 700)
        backend.close()
        gc.collect()
        kept.append(session() is not None)
    assert kept == [False, True]
