"""ONNX Runtime's device backend, run for real on the CPU provider: device memory of the stand-in is host memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from alterbute.backends import Backend
from alterbute.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from alterbute.bundle import Bundle, describe_files, open_bundle, write_manifest
from alterbute.editor import Editor
from alterbute.errors import DeviceError
from alterbute_export.half.variants import add_variants, write_variants

from tests.backends.conftest import draw_photo_and_mask
from tests.backends.fake_cuda import FakeCuda
from tests.support.backends import SharedBackend


@pytest.fixture
def open_on(reference: Backend) -> Callable[[Bundle], tuple[OnnxRuntimeCudaBackend, FakeCuda]]:
    def make(bundle: Bundle) -> tuple[OnnxRuntimeCudaBackend, FakeCuda]:
        cuda: Any = FakeCuda()
        backend = OnnxRuntimeCudaBackend(
            bundle,
            ort=onnxruntime,
            cuda_api=cuda,
            host=SharedBackend(reference),
            provider="CPUExecutionProvider",
            kind="cpu",
        )
        return backend, cuda

    return make


def test_an_edit_over_bound_memory_gives_the_bytes_of_a_plain_edit(
    tiny_bundle: Path, reference: Backend, open_on: Callable[[Bundle], tuple[OnnxRuntimeCudaBackend, FakeCuda]]
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


def test_each_shape_and_direction_has_its_own_graph_annotation(
    tiny_bundle: Path,
    open_on: Callable[[Bundle], tuple[OnnxRuntimeCudaBackend, FakeCuda]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = open_bundle(tiny_bundle)
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(bundle)
    seen: list[str] = []
    launch = backend.launch

    def spy(binding: Any, options: Any) -> None:
        seen.append(options.get_run_config_entry("gpu_graph_id"))
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        launch(binding, options)


    with Editor(bundle, backend=backend) as editor:
        subject = editor.prepare(photo, mask)
        subject.edit("color: red", seed=3, steps=4)
        subject.edit_many(["color: red", "color: blue"], seed=3, steps=4)
    assert seen == ["1", "2", "1", "2", "3", "4", "3", "4"]


def test_the_half_precision_variant_is_taken_where_the_bundle_has_one(
    tiny_bundle: Path,
    tmp_path: Path,
    reference: Backend,
    open_on: Callable[[Bundle], tuple[OnnxRuntimeCudaBackend, FakeCuda]],
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    bundle = open_bundle(folder)
    written = write_variants(bundle, folder, "fp16", measure=False)
    graphs = add_variants(bundle.manifest.graphs, "fp16", written)
    write_manifest(folder, replace(bundle.manifest, graphs=graphs, files=describe_files(folder)))
    photo, mask = draw_photo_and_mask()
    backend, _ = open_on(open_bundle(folder))
    with Editor(bundle, backend=backend) as editor:
        half = np.asarray(editor.edit(photo, mask, "color: red", seed=3, steps=5).image, np.float32)
    with Editor(bundle, backend=SharedBackend(reference)) as editor:
        full = np.asarray(editor.edit(photo, mask, "color: red", seed=3, steps=5).image, np.float32)
    assert not np.array_equal(half, full)
    assert 20 * np.log10(255 / np.sqrt(np.mean((half - full) ** 2))) >= 40


def test_a_lost_device_is_fatal(
    tiny_bundle: Path, open_on: Callable[[Bundle], tuple[OnnxRuntimeCudaBackend, FakeCuda]]
) -> None:
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
